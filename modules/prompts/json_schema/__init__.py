"""Converts JSON schemas to grammars."""
