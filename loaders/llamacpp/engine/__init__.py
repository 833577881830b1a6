"""The llama.cpp engine: one thread that decodes all requests in one batch. Importing this imports nothing."""
