"""The ExLlamav2_HF loader: a folder on ExLlamaV2, behind transformers' interface."""
