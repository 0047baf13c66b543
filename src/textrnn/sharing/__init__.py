"""How does a run leave this project?"""
