"""How does one run start, train, resume and end?"""
