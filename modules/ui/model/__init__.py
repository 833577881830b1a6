"""The Model tab: the models on disk, their load options, downloads and the memory forecast."""
