"""Makes loaders/llamacpp/self_test.gguf and .json: `python -m tests.zoo.self_test_model`.

A random llama of two layers in which each matrix has another type of quantization, so that a token passes through the
kernels of all of them; and what its prompt scores where they work.
"""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

_WIDTH, _FEED, _HEADS, _KV_HEADS, _VOCABULARY = 256, 256, 4, 2, 288
_TYPES = (
    {
        "attn_q": "Q4_0", "attn_k": "Q4_1", "attn_v": "Q8_0", "attn_output": "Q4_K",
        "ffn_gate": "Q5_K", "ffn_up": "Q6_K", "ffn_down": "IQ4_XS",
    },
    {
        "attn_q": "Q5_0", "attn_k": "Q5_1", "attn_v": "Q4_K", "attn_output": "Q3_K",
        "ffn_gate": "Q8_0", "ffn_up": "IQ4_NL", "ffn_down": "BF16",
    },
)  # fmt: skip


def quantize(values: npt.NDArray[np.float32], kind: gguf.GGMLQuantizationType) -> npt.NDArray[np.uint8]:
    """By llama.cpp's own library; gguf cannot make the K types."""
    from loaders.llamacpp.native import _base

    block, size = gguf.GGML_QUANT_SIZES[kind]
    rows, columns = values.shape
    found = np.empty((rows, columns // block * size), np.uint8)
    _base.ggml_quantize_chunk.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *3 * [ctypes.c_int64], ctypes.c_void_p,
    ]  # fmt: skip
    _base.ggml_quantize_chunk.restype = ctypes.c_size_t
    _base.ggml_quantize_chunk(int(kind), values.ctypes.data, found.ctypes.data, 0, rows, columns, None)
    return found


def write(path: Path) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("self test")
    writer.add_block_count(len(_TYPES))
    writer.add_context_length(512)
    writer.add_embedding_length(_WIDTH)
    writer.add_feed_forward_length(_FEED)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_vocab_size(_VOCABULARY)
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += [f"<spare_{number}>" for number in range(_VOCABULARY - len(tokens))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([2, 3, 3, *[6] * 256, *[5] * (len(tokens) - 259)])  # unknown, control, bytes, unused
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    chance = np.random.default_rng(7)

    def matrix(name: str, rows: int, columns: int, kind: str) -> None:
        values = (chance.normal(0, 1.5 / np.sqrt(columns), (rows, columns))).astype(np.float32)
        quantized = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(name, quantize(values, quantized), raw_dtype=quantized)

    matrix("token_embd.weight", _VOCABULARY, _WIDTH, "Q8_0")
    matrix("output.weight", _VOCABULARY, _WIDTH, "Q6_K")
    shapes = {
        "attn_q": (_WIDTH, _WIDTH), "attn_k": (_WIDTH * _KV_HEADS // _HEADS, _WIDTH),
        "attn_v": (_WIDTH * _KV_HEADS // _HEADS, _WIDTH), "attn_output": (_WIDTH, _WIDTH),
        "ffn_gate": (_FEED, _WIDTH), "ffn_up": (_FEED, _WIDTH), "ffn_down": (_WIDTH, _FEED),
    }  # fmt: skip
    for layer, types in enumerate(_TYPES):
        for name, kind in types.items():
            matrix(f"blk.{layer}.{name}.weight", *shapes[name], kind)
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(_WIDTH, np.float32))
    writer.add_tensor("output_norm.weight", np.ones(_WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    from loaders.llamacpp import self_test

    write(self_test.MODEL)
    scores: Any = self_test.compute_scores(1)
    self_test.EXPECTED.write_text(json.dumps([round(float(each), 3) for each in scores]) + "\n", "utf-8")


if __name__ == "__main__":
    main()
