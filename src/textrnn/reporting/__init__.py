"""What do runs look like on a page?"""
