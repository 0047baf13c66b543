"""What are predictions worth?"""
