"""Qwen 2.5, QwQ and Qwen 3, Hermes, and similar ones: JSON between `<tool_call>`, reasoning in `<think>`."""

from modules.families.family import Family

FAMILY = Family(name="qwen", signs=("<tool_call>", "<|im_start|>"), ends=("<|im_end|>",), others=("<|im_start|>",))
