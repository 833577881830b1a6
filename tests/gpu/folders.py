"""The models of the GPU checks, created on the spot: SmolLM2 from its GGUF, a random Llama, a LoRA of random
numbers.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

#: Ordinary text to score and to continue; in the repository, so that every run uses the same.
TEXT = (Path(__file__).resolve().parents[2] / "docs" / "architecture.md").read_text(encoding="utf-8")
PROMPTS = [
    "The capital of France is", "Once upon a time there was a", "To make bread you need", "Water boils at",
    "In the year 1969,", "def fibonacci(n):", "The largest planet is", "A haiku about rain:",
]  # fmt: skip


def smollm(work: Path, gguf: Path) -> Path:
    """SmolLM2 dequantized: float32 safetensors and its tokenizer, as a Hugging Face folder; created once."""
    folder = work / "smollm2"
    if (folder / "tokenizer.json").is_file():
        return folder
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    read = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32)
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = LlamaForCausalLM(config).to(torch.float32)
    plain.load_state_dict(read.state_dict())
    plain.save_pretrained(folder)
    AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name).save_pretrained(folder)
    return folder


def older(work: Path, gguf: Path) -> Path:
    """The same folder with rope_theta where exllamav2's own programs look for it; created once."""
    folder, source = work / "smollm2-older", smollm(work, gguf)
    if not folder.is_dir():
        shutil.copytree(source, folder)
        config = json.loads((folder / "config.json").read_text())
        config["rope_theta"] = config.get("rope_parameters", config)["rope_theta"]
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def random_llama(work: Path, gguf: Path) -> Path:
    """A Llama of about a billion random float16 weights, with SmolLM2's tokenizer; created once."""
    folder = work / "random1b"
    if (folder / "tokenizer.json").is_file():
        return folder
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(smollm(work, gguf))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
        num_key_value_heads=8, max_position_embeddings=8192, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    with torch.device("cuda"):
        model = LlamaForCausalLM(config).half()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def exl2(work: Path, gguf: Path) -> Path:
    """SmolLM2 as EXL2 with 6 bits per weight, by ExLlamaV2's own converter; created once."""
    folder, scratch = work / "smollm2-exl2", work / "exl2-scratch"
    if (folder / "config.json").is_file():
        return folder
    scratch.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "exllamav2.conversion.convert_exl2", "-i", str(older(work, gguf)), "-nr"]
    command += ["-o", str(scratch), "-cf", str(folder), "-b", "6", "-r", "20", "-mr", "4", "-l", "1024", "-ml", "1024"]
    subprocess.run(command, check=True)
    return folder


def lora(work: Path, gguf: Path) -> Path:
    """An adapter for SmolLM2's q_proj and v_proj, strong enough to change replies; created once."""
    folder = work / "lora"
    if (folder / "adapter_model.safetensors").is_file():
        return folder
    import torch
    from safetensors.torch import save_file

    config = json.loads((smollm(work, gguf) / "config.json").read_text())
    width, heads = config["hidden_size"], config["num_attention_heads"]
    outputs = {"q_proj": width, "v_proj": width // heads * config["num_key_value_heads"]}
    made = torch.Generator().manual_seed(1)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for name, out in outputs.items():
            key = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            tensors[f"{key}.lora_A.weight"] = torch.randn(8, width, generator=made) * 0.03
            tensors[f"{key}.lora_B.weight"] = torch.randn(out, 8, generator=made) * 0.03
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, str(folder / "adapter_model.safetensors"))
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 8,
        "lora_alpha": 16,
        "target_modules": list(outputs),
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder
