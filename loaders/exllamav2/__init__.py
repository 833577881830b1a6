"""The ExLlamaV2 loader: EXL2, GPTQ and unquantized folders on CUDA. Importing this imports neither torch nor
exllamav2.
"""
