"""How does this text feel?"""
