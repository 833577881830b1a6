"""LoRA training, perplexity measurements, and the table of their results."""
