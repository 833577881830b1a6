"""Installs torch and ExLlamaV2: which builds fit a GPU, and how they are added."""
