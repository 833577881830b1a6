"""Conversations: what they are, where they are kept, how they become a prompt, and how a reply comes into them."""
