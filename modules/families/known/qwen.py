"""Qwen 2.5, QwQ and Qwen 3, Hermes, and others like them: JSON between `<tool_call>`, thoughts in `<think>`."""

from modules.families.family import Family

FAMILY = Family(name="qwen", signs=("<tool_call>", "<|im_start|>"), ends=("<|im_end|>",), others=("<|im_start|>",))
