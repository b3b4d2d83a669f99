"""What is this customer worth?"""
