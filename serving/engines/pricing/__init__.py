"""At what price?"""
