"""Search methods for replies: beam search through transformers' own `generate`, and contrastive search.

Sees token ids and a PreTrainedModel; must not know of text or queues.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from errors import InvalidInput, Unsupported
from loaders.base import Tokenizer
from loaders.hf_common import contrastive
from loaders.hf_common.processors import SamplerLogitsProcessor
from loaders.job import Job
from loaders.params import SamplingParams
from loaders.sampler import make_chain
from loaders.sampling import SamplerChain
from loaders.sampling.temperature import is_greedy


class BeamAndContrastiveSearch:
    """Beam search with any number of beams; contrastive search if the model returns hidden states."""

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        end_ids: Iterable[int],
        n_ctx: int,
        *,
        most_beams: int,
        hidden: bool,
        caches: bool = True,
    ) -> None:
        """`hidden`: whether contrastive search works on this model; `caches`: whether beams may use caches."""
        self._model = model
        self._tokenizer = tokenizer
        self._ends = sorted(end_ids)
        self._n_ctx = n_ctx
        self._most_beams = most_beams
        self._hidden = hidden
        self._caches = caches

    def wants(self, params: SamplingParams) -> bool:
        return params.num_beams > 1 or (self._hidden and is_contrastive(params))

    def run(self, job: Job, max_new: int, go_on: Callable[[], bool]) -> Iterator[int]:
        """The reply's tokens. Raises: Unsupported, InvalidInput."""
        params, report = job.request.params, job.report
        if params.guidance_scale != 1:
            raise Unsupported("Guidance cannot be combined with beam or contrastive search. Turn one of them off.")
        if params.grammar_string.strip():
            raise Unsupported("A grammar cannot be combined with beam or contrastive search. Turn one of them off.")
        if params.num_beams > self._most_beams:
            raise InvalidInput(f"num_beams is {params.num_beams}, but this loader supports at most {self._most_beams}.")
        report.reuse_reason = "beam and contrastive search process the whole prompt"
        if params.num_beams > 1:
            if is_contrastive(params):
                report.warnings.append("penalty_alpha has no effect when num_beams is above 1.")
            return self._beams(job, max_new, go_on)
        chain = self._chain(job, report.warnings)
        return contrastive.contrastive_search(
            self._model,
            list(job.request.ids),
            chain,
            alpha=params.penalty_alpha,
            top_k=params.top_k,
            n_vocab=self._tokenizer.n_vocab,
        )

    def _beams(self, job: Job, max_new: int, go_on: Callable[[], bool]) -> Iterator[int]:
        params, ids = job.request.params, list(job.request.ids)
        job.report.seed = params.seed if params.seed >= 0 else int(torch.seed() % 2**31)
        n_vocab = int(self._tokenizer.n_vocab)
        drawn = not is_greedy(params)
        if params.mirostat_mode or "adaptive_target" in params.differing():
            job.report.warnings.append("mirostat and adaptive-p do not adapt to the tokens of beam search.")
        self._chain(job, job.report.warnings)  # reported once, not for each beam
        config = GenerationConfig(
            do_sample=drawn,
            num_beams=params.num_beams,
            use_cache=self._caches,
            length_penalty=params.length_penalty,
            early_stopping=params.early_stopping,
            max_new_tokens=max_new,
            eos_token_id=self._ends or None,
            pad_token_id=self._ends[0] if self._ends else 0,
            **({"top_k": 0} if drawn else {}),  # otherwise 50, whatever the knobs say
        )
        processor = SamplerLogitsProcessor(lambda: self._chain(job), len(ids))
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.manual_seed(job.report.seed % 2**63)
            out = self._model.generate(
                torch.tensor([ids], device=self._model.device),
                generation_config=config,
                logits_processor=LogitsProcessorList([_Narrow(n_vocab), processor]),
                stopping_criteria=StoppingCriteriaList([_Ended(go_on)]),
            )
        yield from out[0, len(ids) :].tolist()

    def _chain(self, job: Job, warnings: list[str] | None = None) -> SamplerChain:
        request, seed = job.request, job.report.seed
        if seed >= 0:  # it was sampled already
            request = replace(request, params=request.params.changed(seed=seed))
        return make_chain(request, self._tokenizer, self._ends, n_ctx=self._n_ctx, warnings=warnings)


def is_contrastive(params: SamplingParams) -> bool:
    """Whether contrastive search is requested: penalty_alpha with top_k, and no sampling."""
    return params.penalty_alpha > 0 and params.top_k > 1 and not params.do_sample


class _Narrow:
    """Removes the padding of the output layer, for which there are no tokens."""

    def __init__(self, n_vocab: int) -> None:
        self._n_vocab = n_vocab

    def __call__(self, _ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores[:, : self._n_vocab]


class _Ended(StoppingCriteria):  # type: ignore[misc]
    """Ends all beams when the request is cancelled."""

    def __init__(self, go_on: Callable[[], bool]) -> None:
        self._go_on = go_on

    def __call__(self, input_ids: torch.Tensor, _scores: Any, **_: Any) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), not self._go_on(), device=input_ids.device)
