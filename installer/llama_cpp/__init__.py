"""Installs llama.cpp: which build fits, where to get it, and whether it uses the GPU."""
