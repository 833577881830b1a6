"""Sampling presets, instruction templates, drafts, and grammars from JSON schemas."""
