"""Which emotions are in this text?"""
