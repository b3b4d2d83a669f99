"""What happens next in this session, and is it going badly?"""
