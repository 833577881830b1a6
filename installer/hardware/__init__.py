"""Detects this machine's hardware: GPUs and drivers, processor, disk, compilers. It chooses no package."""
