"""The request bodies. Sampling parameters come from their one declaration; only other fields are listed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    Strict,
    TypeAdapter,
    ValidationError,
    create_model,
    model_validator,
)
from typing_extensions import TypeAliasType

from errors import encode_utf8
from loaders.params import SamplingParams
from modules.chat.prompt.chat_fields import ClientChat, ModelChoice

_NUMBER = TypeAdapter(float)


def _only_numbers(value: Any) -> Any:
    """Like FailFast, which pydantic supports for lists only: only the first entry that is not a number is reported."""
    for each in value.values() if isinstance(value, Mapping) else ():
        try:
            _NUMBER.validate_python(each)
        except ValidationError:
            raise ValueError("must map integer token ids to numbers") from None
    return value


# Reporting an error for every element of a long list, for each kind of list, would block the server for seconds.
Ids = TypeAliasType("Ids", Annotated[list[Annotated[int, Strict()]], FailFast()])  # strict: true is not a token
IdLists = TypeAliasType("IdLists", Annotated[list[Ids], FailFast()])
Strings = TypeAliasType("Strings", Annotated[list[str], FailFast()])
Inputs = str | Ids | Strings | IdLists
Texts = Annotated[Strings, BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
Limit = Annotated[int, Field(ge=-1)]
Biases = Annotated[dict[str, float], BeforeValidator(_only_numbers)]

#: Fields that clients send without a purpose here: ignored silently.
_SILENT = frozenset(
    [
        "user",
        "metadata",
        "service_tier",
        "api_type",
        "api_server",
        "safety_identifier",
        "prompt_cache_key",
        "num_ctx",
        "max_new_tokens",
        "max_tokens",
        "max_completion_tokens",
        "legacy_api",
        "sampler_seed",
        "stream_options",
    ]
)
#: The names of the reply's limit, in order of precedence; llama.cpp's and Ollama's appear alone or next to those.
_LIMITS = ("max_tokens", "max_completion_tokens", "max_new_tokens")
_FOREIGN_LIMITS = ("n_predict", "num_predict")
#: Options of other programs, with the values at which they do nothing; other values cause a warning.
_FOREIGN: Mapping[str, tuple[Any, ...]] = {
    "skew": (0,),
    "rep_pen_slope": (0, 1),
    "min_keep": (0, 1),
    "dynatemp_range": (0,),
    "dry_penalty_last_n": (0, -1),
    "tfs_z": (1,),
    "mirostat": (0,),
    "adaptive_p": (0,),
    "store": (False,),
    "cache_prompt": (True,),
    "n_probs": (0,),
    "modalities": (["text"],),
    "verbosity": ("medium",),
    "prediction": ({},),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "logits_processors": ([],),
    "include_stop_str_in_output": (False,),
    "include_obfuscation": (True, False),  # of event sizes: none are hidden here
    # for chats; a completion's text is returned unchanged
    "include_reasoning": (True, False),
    "parallel_tool_calls": (True, False),
}


class RequestBody(BaseModel):
    """What all bodies share: null counts as absent, and unknown fields are kept for warnings."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            for key in values:
                encode_utf8(key, "A field name")  # pydantic would refuse each of them
            return {key: value for key, value in values.items() if value is not None}
        return values

    def unknown_fields(self, where: str = "") -> list[str]:
        """A warning for each unknown field; `where` is put before the names of a nested object's fields."""
        known = self._known()
        nested = [(name, body) for name, body in self if isinstance(body, RequestBody)]
        said = [warning for name, body in nested for warning in body.unknown_fields(f"{name}.")]
        for name, value in (self.model_extra or {}).items():
            if name == "n_probs" and (getattr(self, "logprobs", None) or "api_type" in (self.model_extra or {})):
                continue  # duplicates under other names; with api_type, SillyTavern sends one body for all its backends
            if name not in known and value not in _FOREIGN.get(name, ()):
                said.append(f"Unknown field {where}{name[:60]} was ignored.")
        return said[:20]

    @classmethod
    def _known(cls) -> Set[str]:
        """Names that have a meaning here, or never one, although they are not fields."""
        return _SILENT


class StreamOptions(RequestBody):
    include_usage: bool = False


class GenerationFields(RequestBody, ModelChoice):
    """The fields of both ways of generating, besides the sampling parameters."""

    stream: bool = Field(False, description="Stream the reply as server-sent events.")
    stream_options: StreamOptions = StreamOptions()
    max_tokens: Limit | None = Field(None, description="Maximum number of tokens; -1: the rest of the context.")
    max_completion_tokens: Limit | None = Field(None, description="Same as max_tokens.")
    n: int = Field(1, ge=1, le=128, description="Number of replies.")
    stop: Texts = Field([], description="Strings at which the reply ends.")
    stopping_strings: Texts = Field([], description="Same as stop.")
    bad_words: Texts = Field([], description="Same as banned_strings, as in vLLM.")
    stop_token_ids: Ids = Field([], description="Control tokens at which the reply ends.")
    logit_bias: Biases = Field({}, description="Maps token ids to values added to their logits; -100 bans a token.")
    preset: str = Field("", description="Name of a preset; other fields of the request override its values.")
    response_format: dict[str, Any] | None = Field(None, description="text, json_object or json_schema.")
    json_schema: dict[str, Any] | None = Field(None, description="A JSON schema, as in llama-server.")
    guided_json: dict[str, Any] | str | None = Field(None, description="A JSON schema, as in vLLM.")
    guided_choice: Strings | None = Field(None, description="The reply is one of these strings.")
    guided_grammar: str | None = Field(None, description="A GBNF grammar; same as grammar_string.")
    grammar: str | None = Field(None, description="A GBNF grammar; same as grammar_string.")
    structured_outputs: dict[str, Any] | None = Field(None, description="json, choice or grammar, as in vLLM.")

    def params(self, start: SamplingParams) -> SamplingParams:
        """The sampling parameters of this request, applied to the start values. Raises: InvalidInput."""
        given = {name: getattr(self, name) for name in self.model_fields_set & _KNOBS}
        extra = self.model_extra or {}
        spellings = SamplingParams.spellings()
        for spelling in extra:
            if spelling in spellings and spellings[spelling] not in self.model_fields_set:
                given[spellings[spelling]] = extra[spelling]
        if "sampler_seed" in extra and "seed" not in given:
            given["seed"] = extra["sampler_seed"]
        return SamplingParams.parse({**start.differing(), **given})

    def limit(self) -> int | None:
        """The most tokens of the reply, under any of the names; None if not given."""
        value = next(iter(self._limits().values()), None)
        return None if value is None or value < 0 else value

    def endless(self) -> bool:
        """Whether the reply may use all of the remaining context: -1 means so."""
        return next(iter(self._limits().values()), 0) < 0

    def _limits(self) -> dict[str, int]:
        """By each name that was given, in order of precedence."""
        extra = self.model_extra or {}
        named: dict[str, Any] = {name: getattr(self, name, None) for name in _LIMITS}
        named.update({name: extra.get(name) for name in _FOREIGN_LIMITS})
        return {name: value for name, value in named.items() if type(value) is int}

    def doubled(self) -> list[str]:
        """A sentence for each name of the limit that contradicts the one that counts."""
        (first, value), *others = [*self._limits().items()] or [("", 0)]
        return [
            f"{name} was ignored: {first} takes precedence."
            for name, other in others
            if other != value and name in _LIMITS
        ]

    @classmethod
    def _known(cls) -> Set[str]:
        return _SILENT | set(SamplingParams.spellings()) | set(_FOREIGN_LIMITS)

    def _set(self, names: Sequence[str]) -> list[str]:
        """The fields to which the request gives a value other than the default."""
        fields = type(self).model_fields
        return [name for name in names if getattr(self, name) != fields[name].get_default(call_default_factory=True)]

    def biases(self) -> dict[int, float]:
        """`logit_bias` by token id. Raises: ValueError for a key that is not a number."""
        return {int(token): value for token, value in self.logit_bias.items()}


class CompletionFields(GenerationFields):
    """POST /v1/completions."""

    prompt: Inputs = Field("", description="A string, token ids, or a list of either.")
    best_of: int | None = Field(None, ge=1, le=128, description="Number of replies of which the best n are returned.")
    echo: bool = Field(False, description="Return the prompt before the reply.")
    suffix: str = Field("", description="Text that follows the reply, for fill-in-the-middle models.")
    logprobs: bool | int | None = Field(None, ge=0, le=1000, description="Number of candidates with log-probabilities.")


class ChatFields(GenerationFields, ClientChat):
    """POST /v1/chat/completions. Fields that make the prompt are ClientChat's."""

    parallel_tool_calls: bool = Field(True, description="Allow several tool calls in one reply.")
    include_reasoning: bool = Field(True, description="Return the model's reasoning in reasoning_content.")
    logprobs: bool = Field(False, description="Return log-probabilities.")
    top_logprobs: int = Field(0, ge=0, le=1000, description="Number of candidates per token.")

    def idle(self) -> list[str]:
        """A sentence for each field that has no effect in this mode."""
        names = _IDLE[self.mode]
        said = self._idle_values()
        return said + [f"{name} has no effect in {self.mode} mode." for name in self._set(names)]

    def _idle_values(self) -> list[str]:
        """A sentence for each key in these objects that has no meaning."""
        known = {"thinking": ("type", "budget_tokens"), "reasoning": ("effort",)}
        said = [
            f"Unknown field {name}.{str(key)[:60]} was ignored."
            for name, keys in known.items()
            for key in getattr(self, name) or ()
            if key not in keys
        ]
        if self.add_generation_prompt is False and not (self.continue_ or self.continue_final_message):
            said.append(
                "add_generation_prompt has no effect: a reply is always generated. Use continue_ to continue the "
                "last one."
            )
        return said[:20]


#: Fields of a chat that have no effect in a mode.
_TEMPLATE_VALUES = ("chat_template_kwargs", "enable_thinking", "reasoning_effort")
_IDLE: Mapping[str, Sequence[str]] = {
    "instruct": (
        "character", "name2", "bot_name", "context", "greeting", "chat_template_str", "chat_instruct_command",
        "user_bio",
    ),
    "chat": ("instruction_template", "instruction_template_str", "chat_instruct_command", *_TEMPLATE_VALUES),
    "chat-instruct": _TEMPLATE_VALUES,
}  # fmt: skip


def _knob_fields(base: type[BaseModel]) -> dict[str, Any]:
    """Every sampling parameter as an optional field with its own type, bounds and help."""
    fields: dict[str, Any] = {}
    for name, info in SamplingParams.model_fields.items():
        if name not in base.model_fields:
            kind: Any = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
            fields[name] = (kind | None, Field(None, description=info.description))
    return fields


_KNOBS = frozenset(SamplingParams.model_fields) - set(GenerationFields.model_fields)

if TYPE_CHECKING:

    class CompletionRequest(CompletionFields): ...

    class ChatRequest(ChatFields): ...

    class LogitsFields(GenerationFields):
        prompt: str
        use_samplers: bool
        top_logits: int

        def idle(self) -> list[str]: ...
else:

    class _Logits(GenerationFields):
        prompt: str
        use_samplers: bool = False
        top_logits: int = Field(50, ge=1, le=10_000)

        def idle(self) -> list[str]:
            """A sentence for each field that has no effect because no reply is generated or no sampler is used."""
            names = ("stream", "stop", "stopping_strings", "banned_strings", "logit_bias", "n")
            said = [f"{name} has no effect here: no reply is generated." for name in self._set(names)]
            if not self.use_samplers and self._set(["response_format"]):
                said.append("response_format has no effect without use_samplers.")
            return said

    CompletionRequest = create_model("CompletionRequest", __base__=CompletionFields, **_knob_fields(CompletionFields))
    ChatRequest = create_model("ChatRequest", __base__=ChatFields, **_knob_fields(ChatFields))
    LogitsFields = create_model("LogitsRequest", __base__=_Logits, **_knob_fields(_Logits))


class EmbeddingsRequest(RequestBody):
    """POST /v1/embeddings."""

    input: Inputs
    model: str = ""
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1)


class ModerationsRequest(RequestBody):
    input: str | list[Any]
    model: str = ""


class TextBody(RequestBody):
    text: str = Field(max_length=50_000_000)


class TokensBody(RequestBody):
    tokens: Ids


class LoadBody(RequestBody):
    model_name: str
    loader: str | None = None
    args: dict[str, Any] = {}
    settings: dict[str, Any] = {}


class UnloadBody(RequestBody):
    model_name: str = Field("", description="Empty: all models.")
    wait: float = Field(0.0, ge=0, le=3600, description="Seconds that running requests may take before they are ended.")


class LorasBody(RequestBody):
    lora_names: Strings
