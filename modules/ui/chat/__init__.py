"""The Chat tab: its components, its actions, and how a conversation is shown."""
