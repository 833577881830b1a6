"""What a model knows, and teaching it more: LoRAs, perplexity on a text, tables of it."""
