"""What happens next in this session?"""
