"""GBNF grammars, the same for all loaders: read, checked, and followed by llguidance in processes of their own."""
