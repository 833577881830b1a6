"""Any decoder as a PreTrainedModel: transformers' own `generate` runs on it, with its own warpers.

A forward pass gets all tokens so far each time, and the decoder determines which are new. Rows of a batch are the
decoder's branches, so beam search runs if it has enough of them. It must not know of requests or the contract of
models.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from loaders.hf_common.decoder import Decoder


class PastKeyValues:
    """Used as `past_key_values`: the branches that a forward pass reads into."""

    is_compileable = False

    def __init__(self, first: int) -> None:
        self.first = first

    def get_seq_length(self, _layer: int = 0) -> int:
        """Zero: transformers should pass all tokens each time; the decoder determines which are new."""
        return 0

    def reorder_cache(self, _beams: torch.Tensor) -> None:
        """Reordered beams need nothing: each row's tokens determine what its branch can reuse."""


class DecoderForCausalLM(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """A decoder behind transformers' interface. Closing the decoder is up to its owner."""

    config_class = PretrainedConfig
    main_input_name = "input_ids"
    _is_stateful = False

    def __init__(self, config: PretrainedConfig, decoder: Decoder) -> None:
        super().__init__(config)
        self.decoder = decoder
        # a parameter tells transformers the device and dtype of the inputs
        self._place = torch.nn.Parameter(torch.zeros(1), requires_grad=False)
        self._main = PastKeyValues(0)

    def can_generate(self) -> bool:
        return True

    def _supports_default_dynamic_cache(self) -> bool:
        return False

    def _reorder_cache(self, held: PastKeyValues, _beams: torch.Tensor) -> PastKeyValues:
        return held

    def prepare_inputs_for_generation(self, input_ids: torch.Tensor, **more: Any) -> dict[str, Any]:
        """All tokens so far; generate's positions and masks are not needed."""
        held = more.get("past_key_values")
        return {
            "input_ids": input_ids,
            "attention_mask": more.get("attention_mask"),
            "past_key_values": held if isinstance(held, PastKeyValues) else None,
        }

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
        logits_to_keep: int = 1,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        """Logits after these tokens, shape (rows, kept, vocabulary), float32. `input_ids` contains all tokens so far.

        Without `past_key_values` it uses the prompt's branch and those after it; `negative_branch()` selects that of
        guidance. Raises: ValueError for more rows than the decoder has branches, for padded rows, and for transformers'
        own guidance, which passes single tokens: mix the logits of both branches instead.
        """
        held = past_key_values if isinstance(past_key_values, PastKeyValues) else self._main
        rows, length = input_ids.shape
        if rows > self.decoder.branches - held.first:
            raise ValueError(f"this model processes {self.decoder.branches} sequences at a time, not {rows}")
        if rows > 1 and attention_mask is not None and not bool(attention_mask.all()):
            raise ValueError("rows of different lengths (padding) cannot be processed together here")
        if past_key_values is self._main and length == 1 and len(self.decoder.cached_ids(0)) > 1:
            raise ValueError("guidance_scale of transformers is not supported here: mix the logits of both branches")
        self.decoder.in_use = held.first + rows
        keep = length if logits_to_keep == 0 else min(logits_to_keep, length)
        found = [
            torch.from_numpy(self.decoder.read(held.first + row, ids, keep).copy())
            for row, ids in enumerate(input_ids.tolist())
        ]
        logits = torch.stack(found)[:, :, : self.config.vocab_size]
        return CausalLMOutputWithPast(logits=logits.to(input_ids.device), past_key_values=held)

    def negative_branch(self) -> PastKeyValues:
        """The `past_key_values` for the negative prompt."""
        return PastKeyValues(1)
