"""ExLlamaV2 as a true PreTrainedModel: transformers' own `generate` runs on it, with its own warpers.

One sequence at a time, greedy or by chance; a loop that mixes guidance itself has a cache of its own for the negative
prompt. The tokens of each cache are remembered, so a prompt that begins like the last one is not read again. Logits
come for the last position, or for all with `logits_to_keep=0`. It must not know of requests or the contract above.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from loaders.exllamav2.native import ROWS, Weights, make_cache
from loaders.exllamav2.options import Bits
from loaders.llamacpp.sequence import common_prefix


class Held:
    """A cache of exllamav2 with the tokens that it holds: what stands for `past_key_values`."""

    is_compileable = False

    def __init__(self, cache: Any) -> None:
        self.cache = cache
        self.ids: list[int] = []

    def get_seq_length(self, _layer: int = 0) -> int:
        """Zero: transformers shall hand over all tokens each time; what of them is new is found here."""
        return 0


class ExLlamaV2ForCausalLM(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """Weights on the graphics cards behind transformers' interface. Closing the weights is their owner's affair."""

    config_class = PretrainedConfig
    main_input_name = "input_ids"

    def __init__(self, config: PretrainedConfig, weights: Weights, kind: Bits, *, cfg_cache: bool = False) -> None:
        """`cfg_cache`: a second cache for the negative prompt; without it both branches share one and push each
        other out, which is slow but says the same.
        """
        super().__init__(config)
        self._weights = weights
        # a parameter tells transformers where and in which precision the inputs are
        self._place = torch.nn.Parameter(torch.zeros(1), requires_grad=False)
        self.loras: Any = None
        self._main = Held(weights.cache)
        self._other = Held(make_cache(weights.model, kind, weights.context_length)) if cfg_cache else self._main

    def forget(self) -> None:
        """Nothing in the caches is to be found again."""
        self._main.ids, self._other.ids = [], []

    def can_generate(self) -> bool:
        return True

    def _supports_default_dynamic_cache(self) -> bool:
        return False

    def prepare_inputs_for_generation(self, input_ids: torch.Tensor, **more: Any) -> dict[str, Any]:
        """All tokens so far; generate's positions and masks are not needed."""
        return {"input_ids": input_ids, "past_key_values": more.get("past_key_values")}

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,  # noqa: ARG002 - transformers looks for it
        past_key_values: Any = None,
        logits_to_keep: int = 1,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        """Logits after these tokens, shape (1, kept, vocabulary), float32. `input_ids` holds all tokens so far.

        Without `past_key_values` it is the main branch; `negative_branch()` names the other one.
        Raises: ValueError, for more than one sequence, and for the guidance of transformers itself, which hands over
        single tokens: a loop that mixes both branches' logits takes its place.
        """
        if input_ids.shape[0] != 1:
            raise ValueError("ExLlamaV2 reads one sequence at a time here: no beams, no batches")
        held = past_key_values if isinstance(past_key_values, Held) else self._main
        if past_key_values is self._main and input_ids.shape[1] == 1 and len(held.ids) > 1:
            raise ValueError("guidance_scale of transformers does not work here: mix the logits of both branches")
        logits = self._read(held, input_ids[0].tolist(), logits_to_keep)
        return CausalLMOutputWithPast(logits=logits.to(input_ids.device), past_key_values=held)

    def negative_branch(self) -> Held:
        """What to pass as `past_key_values` for the negative prompt."""
        return self._other

    def _read(self, held: Held, ids: Sequence[int], keep: int) -> torch.Tensor:
        wanted = len(ids) if keep == 0 else min(keep, len(ids))
        there = min(common_prefix(held.ids, list(ids)), len(ids) - wanted)
        del held.ids[there:]
        held.cache.current_seq_len = there
        found = []
        while there < len(ids):
            first = len(ids) - wanted
            end = min(there + ROWS, len(ids)) if there >= first else first
            piece = torch.tensor([list(ids[there:end])], dtype=torch.long)
            logits = self._weights.model.forward(piece, held.cache, preprocess_only=there < first, loras=self.loras)
            held.ids.extend(ids[there:end])
            if there >= first:
                found.append(logits.float().cpu())
            there = end
        return torch.cat(found, 1)[:, :, : self.config.vocab_size]
