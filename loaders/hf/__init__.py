"""What the loaders of Hugging Face folders share. Nothing heavy is imported here."""
