"""How are settings searched?"""
