"""How are several runs started and compared?"""
