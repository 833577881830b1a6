"""File formats of conversations and characters: our own and those of other programs. They know no store."""
