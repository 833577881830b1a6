"""What the loaders of Hugging Face folders share. Imports nothing heavy."""
