"""Strings that must not appear in a reply: parsed, found in growing text, and avoided by going back."""
