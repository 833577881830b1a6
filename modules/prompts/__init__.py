"""What is put before a model besides the words themselves: sampling presets and instruction templates."""
