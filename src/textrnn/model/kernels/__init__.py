"""Recurrent layers in C for the CPU: sources, their compilation, and the layers that call them."""
