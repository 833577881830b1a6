"""The Training tab: LoRA training and perplexity."""
