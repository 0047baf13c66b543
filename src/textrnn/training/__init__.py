"""How does one run live?"""
