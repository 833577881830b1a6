"""Replies that are searched for: beams through transformers' own `generate`, and contrastive search.

Sees token ids and a PreTrainedModel; must not know of text or of queues.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from errors import InvalidInput, Unsupported
from loaders.base import Tokenizer
from loaders.hf import contrastive
from loaders.hf.processors import SamplerProcessor
from loaders.job import Job
from loaders.params import SamplingParams
from loaders.sampling import SamplerChain, breaker_ids
from loaders.sampling.temperature import without_chance


class BeamsAndContrast:
    """Beam search with as many beams as asked for; contrastive search where the model gives hidden states."""

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
        """`hidden`: whether contrastive search works on this model; `caches`: whether beams may keep what they read."""
        self._model = model
        self._tokenizer = tokenizer
        self._ends = sorted(end_ids)
        self._n_ctx = n_ctx
        self._most_beams = most_beams
        self._hidden = hidden
        self._caches = caches

    def wants(self, params: SamplingParams) -> bool:
        return params.num_beams > 1 or (self._hidden and contrasts(params))

    def run(self, job: Job, max_new: int, go_on: Callable[[], bool]) -> Iterator[int]:
        """The reply's tokens. Raises: Unsupported, InvalidInput."""
        params, report = job.request.params, job.report
        if params.guidance_scale != 1:
            raise Unsupported("Guidance does not work with beams or contrastive search. Switch one of them off.")
        if params.grammar_string.strip():
            raise Unsupported("A grammar does not work with beams or contrastive search. Switch one of them off.")
        if params.num_beams > self._most_beams:
            raise InvalidInput(f"num_beams is {params.num_beams}; this loader has room for {self._most_beams} beams.")
        report.reuse_reason = "a search reads the whole prompt"
        if params.num_beams > 1:
            if contrasts(params):
                report.warnings.append("penalty_alpha does nothing while num_beams is above 1.")
            return self._beams(job, max_new, go_on)
        chain = self._chain(job, report.warnings)
        return contrastive.search(
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
        drawn = not without_chance(params)
        if params.mirostat_mode or "adaptive_target" in params.differing():
            job.report.warnings.append("mirostat and adaptive-p do not learn from what beams say.")
        self._chain(job, job.report.warnings)  # what cannot be honoured is said once, not by each beam
        config = GenerationConfig(
            do_sample=drawn,
            num_beams=params.num_beams,
            use_cache=self._caches,
            length_penalty=params.length_penalty,
            early_stopping=params.early_stopping,
            max_new_tokens=max_new,
            eos_token_id=self._ends or None,
            pad_token_id=self._ends[0] if self._ends else 0,
            **({"top_k": 0} if drawn else {}),  # else 50 of them, whatever the knobs say
        )
        processor = SamplerProcessor(lambda: self._chain(job), len(ids))
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
        chain = SamplerChain(
            request.params,
            n_vocab=self._tokenizer.n_vocab,
            seed=seed if seed >= 0 else request.params.seed,
            prompt_ids=request.ids,
            context_length=self._n_ctx,
            newline_ids=self._tokenizer.encode("\n")[-1:],
            end_ids=self._ends,
            breaker_ids=breaker_ids(request.params, self._tokenizer.encode),
            logit_bias=request.logit_bias,
            warnings=warnings,
        )
        return chain


def contrasts(params: SamplingParams) -> bool:
    """Whether contrastive search is asked for: penalty_alpha with top_k, and nothing left to chance."""
    return params.penalty_alpha > 0 and params.top_k > 1 and not params.do_sample


class _Narrow:
    """Cuts the padding of the output layer off, which no token has."""

    def __init__(self, n_vocab: int) -> None:
        self._n_vocab = n_vocab

    def __call__(self, _ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores[:, : self._n_vocab]


class _Ended(StoppingCriteria):  # type: ignore[misc]
    """Ends all beams when nobody wants them any more."""

    def __init__(self, go_on: Callable[[], bool]) -> None:
        self._go_on = go_on

    def __call__(self, input_ids: torch.Tensor, _scores: Any, **_: Any) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), not self._go_on(), device=input_ids.device)
