"""The kinds of servers, and what each can do: one table, from the servers' own documentation.

A knob that is neither in a kind's fields nor done here is not supported there, with the reason. Nothing is tried out.
It must not know how requests are sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from loaders.base import Request
from loaders.params import SamplingParams
from loaders.remote import fields as make

#: Knobs that this program honours by itself, with any server.
_HERE = frozenset(
    (
        "max_new_tokens", "auto_max_new_tokens", "truncation_length", "truncation_keep", "max_tokens_second",
        "max_updates_second", "stream", "custom_stopping_strings", "control_tokens_in_messages", "negative_prompt",
        "temperature", "do_sample", "seed", "add_bos_token", "skip_special_tokens",
    )
)  # fmt: skip
_DYNAMIC = ("dynamic_temperature", "dynatemp_low", "dynatemp_high", "dynatemp_exponent")
_DRY = ("dry_multiplier", "dry_base", "dry_allowed_length", "dry_sequence_breakers")
_BEAMS = ("num_beams", "length_penalty", "early_stopping")
_XTC = ("xtc_threshold", "xtc_probability")
_MIROSTAT = ("mirostat_mode", "mirostat_tau", "mirostat_eta")
_PENALTIES = ("presence_penalty", "frequency_penalty")


@dataclass(frozen=True)
class ServerKind:
    """One kind of server. `fields` makes a request's body from it, the prompt as the server takes it, and the model.

    `owner` is what its list of models says; `knobs` are those that it honours itself. `route` of the requests;
    `token_routes`: its tokenizer's (encode, decode), if it has one. `ids`: whether prompts are sent as token ids.
    `unused`: sentences about values of its knobs that cannot be sent.
    """

    name: str
    owner: str
    fields: Callable[[Request, str | list[int], str], dict[str, Any]]
    knobs: frozenset[str]
    route: str = "/v1/completions"
    token_routes: tuple[str, str] | None = None
    ids: bool = False
    most_logprobs: int = 0  # alternatives per token, as it is usually started; 0 for the whole vocabulary
    reasons: Mapping[str, str] = field(default_factory=dict)
    unused: Callable[[SamplingParams], list[str]] = lambda _: []

    def unsupported(self) -> dict[str, str]:
        """Knobs and abilities that it does not have, each with the reason."""
        found = {
            name: f"{self.name} has no such setting."
            for name in SamplingParams.knobs()
            if name not in _HERE and name not in self.knobs
        }
        return {**found, **_EVERYWHERE, **self.reasons}

    def fewer_logprobs(self, request: Request) -> tuple[Request, str]:
        """With as many alternatives as it tells, and a sentence about that if it is not all that are asked for.

        More would be refused, with the whole request.
        """
        asked, most = request.alternatives, self.most_logprobs
        if not most or asked is None or asked <= most:
            return request, ""
        note = (
            f"{self.name} tells at most {most} log-probabilities for each token, so {most} were asked for, not {asked}."
        )
        return replace(request, alternatives=most), note

    def without_tokenizer(self) -> ServerKind:
        """What is left of it where its tokenizer's routes cannot be reached: prompts are sent as text."""
        assert self.token_routes
        missing = f"{self.name} does not answer at {self.token_routes[0]} here; perhaps a proxy lets only /v1 through."
        left = self if self.route.startswith("/v1/") else OPENAI  # without its own routes, it is one like others
        reasons = {**left.reasons, **dict.fromkeys(("tokens", "logits", "score"), missing)}
        return replace(left, token_routes=None, ids=False, reasons=reasons)


_EVERYWHERE: Mapping[str, str] = {
    "guidance_scale": "Guidance (CFG) needs a second prompt in each step, which no server's routes have.",
    "token_healing": "Token healing needs the logits of each step, which stay on the server.",
    "prompt_lookup_num_tokens": "The server decides by itself how it drafts.",
    "penalty_alpha": "Contrastive search needs hidden states, which servers do not provide.",
    "processors": "Logits are computed and used on the server.",
    "work_ahead": "A server does not say whether others wait for it, so nothing is computed ahead.",
    "embeddings": "Ask the server itself: its embeddings are another model's.",
    "lora": "Adapters are chosen where the server is started.",
    **dict.fromkeys(_BEAMS, "Servers do not search with beams."),
}
_NO_BACKTRACKING = "{} cannot go back in a reply."

LLAMA_SERVER = ServerKind(
    name="llama-server",
    owner="llamacpp",
    fields=make.for_llama_server,
    route="/completion",
    token_routes=("/tokenize", "/detokenize"),
    ids=True,
    knobs=frozenset(
        (
            "top_k", "top_p", "min_p", "typical_p", "top_n_sigma", "temperature_last", "repetition_penalty",
            "repetition_penalty_range", "custom_token_bans", "ban_eos_token", "grammar_string", "sampler_priority",
            *_PENALTIES, *_DYNAMIC, *_DRY, *_XTC, *_MIROSTAT,
        )
    ),
    reasons={
        "banned_strings": _NO_BACKTRACKING.format("llama-server"),
        "score": "llama-server does not return the log-probabilities of prompts.",
    },
)  # fmt: skip

#: SGLang has the same ones.
_VLLM_KNOBS = frozenset(
    (
        "top_k", "top_p", "min_p", "repetition_penalty", "custom_token_bans", "ban_eos_token", "min_length",
        "grammar_string", *_PENALTIES,
    )
)  # fmt: skip

VLLM = ServerKind(
    name="vLLM",
    owner="vllm",
    fields=make.for_vllm,
    token_routes=("/tokenize", "/detokenize"),
    ids=True,
    most_logprobs=20,
    knobs=_VLLM_KNOBS,
    reasons={
        "repetition_penalty_range": "vLLM's penalties consider the whole prompt and reply.",
        "banned_strings": _NO_BACKTRACKING.format("vLLM"),
    },
)  # fmt: skip

SGLANG = ServerKind(
    name="SGLang",
    owner="sglang",
    fields=make.for_sglang,
    token_routes=("/tokenize", "/detokenize"),
    ids=True,
    most_logprobs=100,
    knobs=_VLLM_KNOBS,
    reasons={
        "repetition_penalty_range": "SGLang's penalties consider the whole reply.",
        "banned_strings": _NO_BACKTRACKING.format("SGLang"),
    },
)  # fmt: skip

TABBY = ServerKind(
    name="TabbyAPI",
    owner="tabbyapi",
    fields=make.for_tabby,
    unused=make.unused_by_tabby,
    token_routes=("/v1/token/encode", "/v1/token/decode"),
    most_logprobs=20,
    knobs=frozenset(
        (
            "top_k", "top_p", "min_p", "typical_p", "tfs", "top_a", "temperature_last", "repetition_penalty",
            "repetition_penalty_range", "custom_token_bans", "ban_eos_token", "min_length", "banned_strings",
            "smoothing_factor", *_PENALTIES, *_DYNAMIC, *_DRY, *_XTC, *_MIROSTAT,
        )
    ),
    reasons={
        "grammar_string": "TabbyAPI reads grammars in another format (KBNF).",
        "banned_strings_ignore_case": "TabbyAPI ignores the case of banned strings always.",
        "logits": "TabbyAPI does not return token ids.",
        "score": "TabbyAPI does not return the log-probabilities of prompts.",
    },
)  # fmt: skip

OPENAI = ServerKind(
    name="OpenAI",
    owner="",
    fields=make.for_openai,
    most_logprobs=5,
    knobs=frozenset(("top_p", "custom_token_bans", *_PENALTIES)),
    reasons={
        "tokens": "OpenAI's routes have no tokenizer.",
        "logits": "OpenAI's routes do not return token ids.",
        "score": "OpenAI's routes do not return the log-probabilities of prompts.",
        "repetition_penalty_range": "OpenAI's penalties consider the whole reply.",
    },
)

#: By their names in files and flags.
KINDS: Mapping[str, ServerKind] = {kind.name.lower(): kind for kind in (VLLM, SGLANG, LLAMA_SERVER, TABBY, OPENAI)}


def kind_of_owner(owner: str) -> ServerKind:
    """The kind of a server by `owned_by` in its list of models; plain OpenAI if it is none of the known ones."""
    plain = owner.lower().replace(".", "").replace("-", "")
    return next((kind for kind in KINDS.values() if kind.owner and kind.owner == plain), OPENAI)
