"""Load options that several loaders share, each declared once. It knows names and bounds, not their effects."""

from __future__ import annotations

from loaders.knobs import knob

#: Without a request of the user's, no more context than this: the model's own maximum can take all memory.
LARGEST_DEFAULT_CONTEXT = 8192

MAX_SEQ_LEN = knob(
    0, ge=0, range=(0, 200_000, 256), group="main", aliases=("n_ctx", "ctx_size"),
    help="Context length in tokens, for prompt and reply together. 0 is the model's own, at most "
    f"{LARGEST_DEFAULT_CONTEXT}.",
)  # fmt: skip
DRAFT_MODEL = knob(
    "", group="speed", aliases=("model_draft", "spec_draft_model"),
    help="Draft model for speculative decoding, with the same vocabulary: a path, or the name of a file or folder next "
    "to the model.",
)  # fmt: skip
CPU = knob(False, group="memory", help="Run on the CPU only, even if there is a GPU.")
ALPHA_VALUE = knob(
    1.0, ge=1, range=(1, 8, 0.05), group="rope",
    help="NTK scaling: extends the context without training. 1 is off; 1.75 gives 1.5 times the context.",
)  # fmt: skip
ROPE_FREQ_BASE = knob(
    0, ge=0, range=(0, 1_000_000, 1000), group="rope",
    help="RoPE base frequency. Above 0, it overrides alpha_value; 0 is the model's own.",
)  # fmt: skip
COMPRESS_POS_EMB = knob(
    1.0, ge=1, range=(1, 8, 0.5), group="rope",
    help="Linear scaling: divides the positions by this value. Use the factor that the model was trained with.",
)  # fmt: skip
LOGITS_ALL = knob(
    False, group="other",
    help="Only for old settings; has no effect. Log-probabilities are computed on request.",
)  # fmt: skip
#: For loaders that never run a folder's code.
NO_REMOTE_CODE = knob(
    False,
    group="other",
    help="Only for old settings; has no effect. This loader never runs code from a model folder.",
)
NO_USE_FAST = knob(
    False, group="other", help="Only for old settings; has no effect. The fast tokenizer is always used."
)
