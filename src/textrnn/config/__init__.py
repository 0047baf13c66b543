"""What is a run made of?"""
