"""GBNF grammars for all loaders: parsed, validated, and matched by llguidance in separate processes."""
