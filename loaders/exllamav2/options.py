"""The load options of the ExLlamaV2 loaders, each declared once. Knows names and bounds, not how they are honoured."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from errors import InvalidInput
from loaders.knobs import knob
from loaders.params import LoadOptions, Text

Bits = Literal["f16", "q8_0", "q6_0", "q4_0"]

_SPELLINGS: dict[str, Bits] = {
    "16": "f16", "fp16": "f16",
    "8": "q8_0", "q8": "q8_0", "fp8": "q8_0", "8bit": "q8_0",
    "6": "q6_0", "q6": "q6_0", "6bit": "q6_0",
    "4": "q4_0", "q4": "q4_0", "4bit": "q4_0",
}  # fmt: skip


def _bits(value: Any) -> Any:
    return _SPELLINGS.get(str(value).strip().lower(), value)


CacheBits = Annotated[Bits, BeforeValidator(_bits)]


class CardOptions(LoadOptions):
    """How a folder is brought onto the graphics cards, whatever decodes it."""

    max_seq_len: int = knob(
        0, ge=0, range=(0, 200_000, 256), group="main", aliases=("n_ctx", "ctx_size"),
        help="Context in tokens for prompt and reply together. 0 is the model's own, at most 8192.",
    )  # fmt: skip
    cache_type: CacheBits = knob(
        "f16", group="main",
        help="How exactly the KV cache is kept: 8 bits take half the memory of 16, 4 bits a quarter.",
    )  # fmt: skip
    gpu_split: Text = knob(
        "", group="main",
        help="Gigabytes of weights for each of several GPUs, with commas between: 20,7,7. Empty: one after the other.",
    )  # fmt: skip
    autosplit: bool = knob(
        False, group="memory",
        help="Fill one GPU after the other by what is free, even where gpu_split says otherwise.",
    )  # fmt: skip
    cache_8bit: bool = knob(False, group="memory", help="The older spelling of cache_type q8_0.")
    cache_4bit: bool = knob(False, group="memory", help="The older spelling of cache_type q4_0.")
    enable_tp: bool = knob(
        False, group="memory",
        help="Tensor parallelism: each layer is spread over all GPUs. Needs flash-attn; LoRA adapters do not act.",
    )  # fmt: skip
    chunk_size: int = knob(
        2048, ge=256, le=16384, range=(256, 8192, 256), group="speed",
        help="The most prompt tokens that are processed at once, in steps of 256.",
    )  # fmt: skip
    no_flash_attn: bool = knob(
        False, group="speed", help="Do not use flash-attn, even where it is installed. Requests then run in turn."
    )
    no_xformers: bool = knob(False, group="speed", help="Do not use xformers, even where it is installed.")
    alpha_value: float = knob(
        1.0, ge=1, range=(1, 8, 0.05), group="rope",
        help="NTK scaling: stretches the context without training. 1 is off; 1.75 for 1.5 times the context.",
    )  # fmt: skip
    rope_freq_base: float = knob(
        0, ge=0, range=(0, 1_000_000, 1000), group="rope",
        help="The RoPE base itself. Above 0 it wins over alpha_value; 0 is the model's own.",
    )  # fmt: skip
    compress_pos_emb: float = knob(
        1.0, ge=1, range=(1, 8, 0.5), group="rope",
        help="Linear scaling: divides the positions by this. Set it to the factor that the model was trained with.",
    )  # fmt: skip
    num_experts_per_token: int = knob(
        0, ge=0, range=(0, 16, 1), group="other",
        help="For mixtures of experts: how many of them work on each token. 0 is the model's own number.",
    )  # fmt: skip

    def cache(self) -> Bits:
        """The cache's type, the older switches taken into account. Raises: InvalidInput, where they disagree."""
        wanted = [kind for kind, on in (("q8_0", self.cache_8bit), ("q4_0", self.cache_4bit)) if on]
        if len(wanted) == 2 or (wanted and self.cache_type not in ("f16", wanted[0])):
            raise InvalidInput("cache_type, cache_8bit and cache_4bit disagree. Set cache_type alone.")
        return "q8_0" if self.cache_8bit else "q4_0" if self.cache_4bit else self.cache_type

    def split(self) -> list[float]:
        """`gpu_split` in gigabytes per GPU; empty for an automatic split. Raises: InvalidInput."""
        text = self.gpu_split.strip().lower()
        if self.autosplit or text in ("", "auto"):
            return []
        try:
            sizes = [float(part) for part in text.split(",")]
        except ValueError:
            sizes = []
        if not sizes or not all(0 <= size < 1e6 for size in sizes) or not any(sizes):
            raise InvalidInput(f"gpu_split is a list of gigabytes such as 20,7,7, not {self.gpu_split!r}.")
        return sizes


class ExLlamaV2Options(CardOptions):
    """What the native loader adds: requests that run together, and guesses ahead."""

    parallel: int = knob(
        4, ge=1, le=64, range=(1, 16, 1), group="main",
        help="How many requests are decoded together where flash-attn is installed; without it they run in turn.",
    )  # fmt: skip
    cache_size: int = knob(
        0, ge=0, range=(0, 1_000_000, 1024), group="memory",
        help="Tokens of cache for all requests that run together. 0 is max_seq_len; more lets long ones run together.",
    )  # fmt: skip
    draft_model: Text = knob(
        "", group="speed", aliases=("model_draft",),
        help="A small model of the same vocabulary that guesses ahead: a folder's path, or its name beside this model.",
    )  # fmt: skip
    draft_max: int = knob(
        4, ge=1, le=7, range=(1, 7, 1), group="speed", aliases=("num_draft_tokens",),
        help="How many tokens are guessed ahead, by draft_model or ngram_draft.",
    )  # fmt: skip
    draft_cache_type: CacheBits = knob("f16", group="speed", help="The draft model's cache, as cache_type.")
    draft_alpha_value: float = knob(
        1.0, ge=1, range=(1, 8, 0.05), group="speed",
        help="NTK scaling of the draft model, where its own context is shorter than max_seq_len. 1 is off.",
    )  # fmt: skip
    ngram_draft: bool = knob(
        False, group="speed",
        help="Guess ahead from repetitions in the text: quick where a reply quotes its prompt. Not with draft_model.",
    )  # fmt: skip

    def drafted(self) -> int:
        """How many tokens are guessed ahead; 0 where nothing guesses. Raises: InvalidInput."""
        if self.draft_model.strip() and self.ngram_draft:
            raise InvalidInput("draft_model and ngram_draft cannot both guess ahead. Choose one.")
        return self.draft_max if self.draft_model.strip() or self.ngram_draft else 0


class ExLlamaV2HFOptions(CardOptions):
    """What ExLlamav2_HF adds."""

    cfg_cache: bool = knob(
        False, group="memory",
        help="Make the second cache, for the negative prompt, while loading. Off: at the first guided request.",
    )  # fmt: skip
    trust_remote_code: bool = knob(
        False, group="other", help="Accepted for old settings: nothing of this loader runs a folder's code."
    )
    no_use_fast: bool = knob(
        False, group="other", help="Accepted for old settings: the tokenizer is always the fast one."
    )

    def native(self) -> ExLlamaV2Options:
        """The same for the native loader, one request at a time."""
        shared = {name: getattr(self, name) for name in CardOptions.knobs()}
        return ExLlamaV2Options.parse({**shared, "parallel": 1})
