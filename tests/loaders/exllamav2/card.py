"""A simulated GPU for tests: the real exllamav2 package (its Python, downloaded once), with the arithmetic replaced.

Config, tokenizer, caches, LoRA files, and above all the dynamic generator with its pages, batches and drafts are
exllamav2's own code. Only the CUDA extension is a stub, and the network is `Net`: it keeps in its cache which token
stands where, checks that the tokens which a step can see count their positions 0, 1, 2, ..., and computes the next
logits from exactly these tokens. A wrong page, mask, offset or prefix therefore changes the text.
"""

from __future__ import annotations

import json
import subprocess
import sys
import types
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

VERSION = "0.3.2"
N_VOCAB = 258
PADDED = 288  # exllamav2 pads the output layer to a multiple of 32
IM_START, IM_END = 256, 257
BITS = {"f16": "ExLlamaV2Cache", "q8_0": "ExLlamaV2Cache_Q8", "q6_0": "ExLlamaV2Cache_Q6", "q4_0": "ExLlamaV2Cache_Q4"}


def fetch(folder: Path) -> Path:
    """The package's Python files, unpacked once; its only wheel, of 1.5 MB, compiles nothing before its first
    import.
    """
    unpacked = folder / f"exllamav2-{VERSION}"
    if not (unpacked / "exllamav2" / "version.py").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*command, "-d", str(folder), f"exllamav2=={VERSION}"], check=True)
        with zipfile.ZipFile(next(folder.glob(f"exllamav2-{VERSION}-*.whl"))) as wheel:
            wheel.extractall(unpacked)
    return unpacked


def extension() -> types.ModuleType:
    """What the generator needs of the CUDA extension if the network is ours."""
    stub = types.ModuleType("exllamav2_ext")

    def count_match(a: torch.Tensor, b: torch.Tensor, longest: int) -> int:
        count = min(a.shape[-1], b.shape[-1], longest)
        differing = (a[0, :count] != b[0, :count]).nonzero()
        return int(differing[0]) if len(differing) else count

    def cache_rotate(cache: torch.Tensor, order: torch.Tensor, _: torch.Tensor) -> None:
        pages = order.tolist()
        cache[pages] = cache[[*pages[1:], pages[0]]].clone()

    stub.count_match = count_match  # type: ignore[attr-defined]
    stub.cache_rotate = cache_rotate  # type: ignore[attr-defined]
    return stub


def logits_after(tokens: Sequence[int], adapters: float = 0.0) -> np.ndarray[Any, Any]:
    """The network: the logits after these tokens, shape (n_vocab,). `adapters` is the LoRAs' contribution."""
    seed = hash((*tokens, round(adapters, 4))) & 0xFFFFFFFF
    return np.random.default_rng(seed).normal(0, 3, N_VOCAB).astype(np.float16).astype(np.float32)


def make_net(exl: Any) -> type:
    """The replacement for exllamav2.ExLlamaV2: its own `forward`, which splits long prompts, over our chunk."""
    from exllamav2.linear import ExLlamaV2Linear

    class Layer(ExLlamaV2Linear):  # type: ignore[misc]
        def __init__(self) -> None:
            self.in_features, self.out_features = 64, 64
            self.lora_a_tensors: dict[Any, Any] = {}
            self.lora_b_tensors: dict[Any, Any] = {}

        def device(self) -> str:
            return "cpu"

    class Net(exl.ExLlamaV2):  # type: ignore[misc, name-defined]
        failing: BaseException | None = None  # raised by the next step
        filling: BaseException | None = None  # raised halfway through loading
        instances: list[Net] = []

        def __init__(self, config: Any) -> None:
            self.config = config
            self.cache_map: dict[int, str] = {}
            self.modules_dict = {"model.layers.0.self_attn.q_proj": Layer()}
            self.loaded = self.unloaded = False
            self.split: list[float] | None = None
            self.chunks: list[tuple[int, int]] = []  # rows and tokens of each step
            self.nan = False
            Net.instances.append(self)

        def _load(self, callback: Any) -> None:
            for part in range(4):
                callback(part, 4)
                if part == 2 and Net.filling:
                    raise Net.filling
            self.cache_map = {0: "cpu"}
            self.loaded = True
            callback(4, 4)

        def load(self, gpu_split: Any = None, callback: Any = None) -> None:
            self.split = gpu_split
            self._load(callback)

        def load_autosplit(self, cache: Any, callback: Any = None) -> None:
            self._load(callback)
            cache.update_cache_tensors()

        def unload(self) -> None:
            self.unloaded = True

        def update_loras(self) -> None:
            pass

        def forward_chunk(
            self,
            input_ids: torch.Tensor,
            cache: Any = None,
            input_mask: torch.Tensor | None = None,
            preprocess_only: bool = False,
            last_id_only: bool = False,
            loras: Any = None,
            position_offsets: torch.Tensor | None = None,
            attn_params: Any = None,
            **_: Any,
        ) -> dict[str, torch.Tensor]:
            if Net.failing:
                error, Net.failing = Net.failing, None
                raise error
            assert loras is None or loras, "an empty list of adapters breaks the output layer"
            assert preprocess_only or last_id_only or input_ids.shape[1] <= self.config.max_output_len
            self.chunks.append((input_ids.shape[0], input_ids.shape[1]))
            rows = []
            for row in range(input_ids.shape[0]):
                columns, past = self._columns(cache, row, attn_params)
                offset = int(position_offsets.flatten()[row]) if position_offsets is not None else 0
                rows.append(self._row(columns, input_ids[row], past, offset, input_mask, row, loras, preprocess_only))
            if attn_params is None or not attn_params.paged:
                cache.current_seq_len = past + input_ids.shape[1]
            return {} if preprocess_only else {"logits": torch.stack(rows)}

        def _columns(self, cache: Any, row: int, attn_params: Any) -> tuple[Any, int]:
            """The positions of this row's tokens: (columns, 2) of token and position, and how many there are."""
            assert cache.key_states[0] is not None
            if attn_params is not None and attn_params.paged:
                pages = attn_params.block_index[row].tolist()
                whole = cache.key_states[0][0].view(-1, 256, *cache.key_states[0].shape[2:])
                return Paged(whole[:, :, 0], pages), int(attn_params.cache_seqlens[row])
            past = attn_params.past_len if attn_params is not None else cache.current_seq_len
            return cache.key_states[0][row, :, 0], past

        def _row(
            self, columns: Any, ids: torch.Tensor, past: int, offset: int, mask: Any, row: int, loras: Any, silent: bool
        ) -> torch.Tensor:
            added = sum(float(tensor.sum()) for lora in loras or () for tensor in lora.tensors.values())
            out = torch.full((len(ids), PADDED), -65504.0, dtype=torch.half)
            for place, token in enumerate(ids.tolist()):
                columns[past + place, 0] = token
                columns[past + place, 1] = past + place + offset
                if silent:
                    continue
                seen = columns[: past + place + 1, :2]
                if mask is not None:
                    width = min(mask.shape[1], len(seen))
                    seen = torch.cat([seen[:width][mask[row, :width] == 0], seen[width:]])
                tokens, positions = seen[:, 0].int().tolist(), seen[:, 1].int().tolist()
                assert positions == list(range(len(positions))), f"positions {positions}"
                found = torch.from_numpy(logits_after(tokens, added)).half()
                out[place, :N_VOCAB] = float("nan") if self.nan else found
            return out

    return Net


class Paged:
    """Columns scattered over pages."""

    def __init__(self, whole: torch.Tensor, pages: Sequence[int]) -> None:
        self._whole, self._pages = whole, pages

    def __setitem__(self, key: tuple[int, int], value: float) -> None:
        column, part = key
        self._whole[self._pages[column // 256], column % 256, part] = value

    def __getitem__(self, key: tuple[slice, slice]) -> torch.Tensor:
        columns, parts = key
        return torch.cat([self._whole[page] for page in self._pages])[columns][:, parts]


def write_folder(path: Path, *, quantization: dict[str, Any] | None = None, context: int = 4096) -> Path:
    """A folder as exllamav2's config and tokenizer read it: one layer, and a token for each byte."""
    from safetensors.torch import save_file
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    path.mkdir(parents=True)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rms_norm_eps": 1e-5,
        "vocab_size": N_VOCAB,
        "max_position_embeddings": context,
        "bos_token_id": IM_START,
        "eos_token_id": IM_END,
    }
    if quantization:
        config["quantization_config"] = quantization
    (path / "config.json").write_text(json.dumps(config))
    layer = "model.layers.0."
    parts = ("q", "k", "v", "o")
    names = [f"{layer}self_attn.{part}_proj" for part in parts]
    names += [f"{layer}mlp.{part}_proj" for part in ("gate", "up", "down")]
    names += [f"{layer}input_layernorm", f"{layer}post_attention_layernorm"]
    names += ["model.embed_tokens", "model.norm", "lm_head"]
    save_file({f"{name}.weight": torch.zeros(4) for name in names}, str(path / "model.safetensors"))
    characters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={character: i for i, character in enumerate(characters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|im_start|>"), AddedToken("<|im_end|>")])
    tokenizer.save(str(path / "tokenizer.json"))
    return path


def write_lora(path: Path, value: float = 0.5, key: str = "model.layers.0.self_attn.q_proj") -> Path:
    """An adapter for the folder's only layer, with an effect."""
    from safetensors.torch import save_file

    path.mkdir(parents=True)
    (path / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 2}))
    prefix = f"base_model.model.{key}"
    tensors = {f"{prefix}.lora_A.weight": torch.full((2, 64), value), f"{prefix}.lora_B.weight": torch.ones(64, 2)}
    save_file(tensors, str(path / "adapter_model.safetensors"))
    return path


def greedy(prompt: Sequence[int], count: int, adapters: float = 0.0) -> list[int]:
    """What the network generates after a prompt, greedily and endlessly."""
    tokens = list(prompt)
    for _ in range(count):
        logits = logits_after(tokens, adapters)
        logits[IM_END] = -np.inf
        tokens.append(int(logits.argmax()))
    return tokens[len(prompt) :]
