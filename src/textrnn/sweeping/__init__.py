"""How is a setting searched?"""
