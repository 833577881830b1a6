"""LoRA training: settings, preparation, the run in its own process, checkpoints, merging, GGUF export."""
