"""Will this session buy?"""
