"""The llama.cpp loader: GGUF files, decoded by one engine for many requests at once."""
