"""transformers' own generate on every HF loader, with our sampler chain as its LogitsProcessor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from transformers import LogitsProcessorList

from loaders.base import Model, Request
from loaders.hf_common.contrastive import contrastive_search
from loaders.hf_common.processors import SamplerLogitsProcessor
from loaders.params import SamplingParams
from loaders.sampling import SamplerChain
from tests.loaders.hf_common.test_model import QUESTION, reply

V = 500


@pytest.mark.parametrize("text", [QUESTION, "Once upon a time", "def main():\n", "1, 2, 3,"])
def test_generate_says_what_our_loop_says(model: Model, text: str) -> None:
    ids = model.tokenizer.encode(text)
    ours = [token.id for token in model.generate(Request(ids, SamplingParams(do_sample=False, ban_eos_token=True), 40))]
    out = model.pretrained.generate(  # type: ignore[attr-defined]
        torch.tensor([ids]), do_sample=False, max_new_tokens=40, eos_token_id=None, pad_token_id=0,
        suppress_tokens=sorted(model._engine._ends), generation_config=transformers.GenerationConfig(),
    )  # fmt: skip
    assert out[0, len(ids) :].tolist() == ours


def test_beams_find_a_reply_that_is_at_least_as_likely(model: Model) -> None:
    def likelihood(text: str) -> float:
        ids = model.tokenizer.encode(QUESTION + text)
        return float(model.score(ids)[len(model.tokenizer.encode(QUESTION)) - 1 :].sum())

    greedy, _ = reply(model, QUESTION, 16)
    beams, report = reply(model, QUESTION, 16, num_beams=3, length_penalty=0.0)
    assert likelihood(beams) >= likelihood(greedy) - 0.05
    assert report.new_tokens


def test_contrastive_search_is_the_papers_formula(transformers_model: Model) -> None:
    """Compared with a slow reference that reads the whole text again for each candidate."""
    model, pretrained = transformers_model, transformers_model.pretrained  # type: ignore[attr-defined]
    ids, alpha, k = model.tokenizer.encode("The old man and the"), 0.6, 4
    chain = SamplerChain(SamplingParams(do_sample=False), n_vocab=model.tokenizer.n_vocab, seed=1, prompt_ids=ids)
    found = contrastive_search(pretrained, ids, chain, alpha=alpha, top_k=k, n_vocab=model.tokenizer.n_vocab)
    text = list(ids)
    for _ in range(5):
        with torch.inference_mode():
            chances = torch.softmax(pretrained(torch.tensor([text])).logits[0, -1], -1)
            scores = []
            for token in chances.topk(k).indices.tolist():
                hidden = pretrained(torch.tensor([[*text, token]]), output_hidden_states=True).hidden_states[-1][0]
                unit = torch.nn.functional.normalize(hidden, dim=-1)
                likeness = (unit[:-1] @ unit[-1]).max()
                scores.append((float((1 - alpha) * chances[token] - alpha * likeness), token))
        text.append(max(scores)[1])
        assert next(found) == text[-1]


def test_a_wrapper_says_what_it_cannot(llamacpp_hf_model: Model) -> None:
    pretrained = llamacpp_hf_model.pretrained  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="sequences at a time"):
        pretrained(torch.ones((20, 3), dtype=torch.long))
    with pytest.raises(ValueError, match="different lengths"):
        pretrained(torch.ones((2, 3), dtype=torch.long), attention_mask=torch.tensor([[0, 1, 1], [1, 1, 1]]))


WARPERS = {
    "temperature": ({"temperature": 0.7}, lambda: transformers.TemperatureLogitsWarper(0.7)),
    "top_k": ({"top_k": 20}, lambda: transformers.TopKLogitsWarper(20)),
    "top_p": ({"top_p": 0.8}, lambda: transformers.TopPLogitsWarper(0.8)),
    "min_p": ({"min_p": 0.05}, lambda: transformers.MinPLogitsWarper(0.05)),
    "typical_p": ({"typical_p": 0.7}, lambda: transformers.TypicalLogitsWarper(0.7)),
    "epsilon_cutoff": ({"epsilon_cutoff": 9.0}, lambda: transformers.EpsilonLogitsWarper(9e-4)),
    "eta_cutoff": ({"eta_cutoff": 20.0}, lambda: transformers.EtaLogitsWarper(20e-4)),
    "repetition_penalty": (
        {"repetition_penalty": 1.3, "repetition_penalty_range": 0},
        lambda: transformers.RepetitionPenaltyLogitsProcessor(1.3),
    ),
    "no_repeat_ngram_size": ({"no_repeat_ngram_size": 2}, lambda: transformers.NoRepeatNGramLogitsProcessor(2)),
    "encoder_repetition_penalty": (
        {"encoder_repetition_penalty": 1.2},
        lambda: transformers.EncoderRepetitionPenaltyLogitsProcessor(1.2, torch.tensor([[1, 2, 3, 1, 2]])),
    ),
}


@pytest.mark.parametrize("name", WARPERS)
def test_a_step_is_the_warper_of_transformers(name: str) -> None:
    """The same candidates with the same probabilities, to 1e-4."""
    settings, make = WARPERS[name]
    prompt = [1, 2, 3, 1, 2]
    for seed in range(6):
        torch.manual_seed(seed)
        scores = torch.randn(1, V) * (1 + seed)
        theirs = torch.softmax(make()(torch.tensor([prompt]), scores.clone()), -1)[0].numpy()
        params = SamplingParams(**settings)
        processor = SamplerLogitsProcessor(
            lambda p=params: SamplerChain(p, n_vocab=V, seed=1, prompt_ids=prompt), len(prompt)
        )
        ours = torch.softmax(processor(torch.tensor([prompt]), scores), -1)[0].numpy()
        assert ((ours > 0) == (theirs > 0)).all()
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_generate_draws_by_our_stack(model: Model) -> None:
    """The processor in transformers' own loop follows the reply: penalties know the generated tokens."""
    ids = model.tokenizer.encode("la la la la")
    params = SamplingParams(no_repeat_ngram_size=2)
    chain = lambda: SamplerChain(params, n_vocab=model.tokenizer.n_vocab, seed=1, prompt_ids=ids)  # noqa: E731
    out = model.pretrained.generate(  # type: ignore[attr-defined]
        torch.tensor([ids]), do_sample=False, max_new_tokens=30, pad_token_id=0, eos_token_id=None,
        logits_processor=LogitsProcessorList([SamplerLogitsProcessor(chain, len(ids))]),
    )[0].tolist()  # fmt: skip
    pairs = list(zip(out[len(ids) - 1 :], out[len(ids) :], strict=False))
    assert len(pairs) == len(set(pairs))
