"""Will this customer leave?"""
