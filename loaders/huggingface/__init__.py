"""The Transformers loader: Hugging Face folders through transformers itself."""
