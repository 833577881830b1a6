"""What a model knows, and teaching it more: perplexity on a text, tables of it. LoRAs will be trained here."""
