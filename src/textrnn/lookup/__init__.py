"""What runs are there?"""
