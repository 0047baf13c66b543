"""How do many runs live?"""
