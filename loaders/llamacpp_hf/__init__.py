"""The llamacpp_HF loader: a GGUF on llama.cpp, behind transformers' interface."""
