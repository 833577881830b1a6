"""Builds the model's prompt from messages."""
