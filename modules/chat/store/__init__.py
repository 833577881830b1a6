"""Conversations on disk: one file each, with a journal, a prompt log, the trash, and search."""
