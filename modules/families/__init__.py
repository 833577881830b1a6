"""How the families of models write: their thoughts, their calls of tools, and what ends their turn. See `family`."""
