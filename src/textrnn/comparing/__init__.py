"""What may be concluded from runs?"""
