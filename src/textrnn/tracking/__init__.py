"""What is written down?"""
