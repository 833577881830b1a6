"""How model families write reasoning and tool calls, and what ends their turn. See `family`."""
