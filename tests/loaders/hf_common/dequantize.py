"""Converts a GGUF to a Hugging Face folder in float32: dequantize.py MODEL.gguf FOLDER. Run once; tests share the
result.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

source, folder = Path(sys.argv[1]), Path(sys.argv[2])
half_made = folder.with_name(folder.name + ".part")
read = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
config = read.config
if hasattr(config, "quantization_config"):  # tensors read from a GGUF cannot be saved: copy them
    del config.quantization_config
plain = LlamaForCausalLM(config)
plain.load_state_dict(read.state_dict())
plain.save_pretrained(half_made)
AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(half_made)
shutil.rmtree(folder, ignore_errors=True)
half_made.rename(folder)
