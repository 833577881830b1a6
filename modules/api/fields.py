"""The bodies of requests. Sampling knobs come from their one declaration; only what is not a knob is listed here."""

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

from errors import utf8
from loaders.params import SamplingParams

_NUMBER = TypeAdapter(float)


def _only_numbers(value: Any) -> Any:
    """As FailFast, which pydantic has for lists alone: the first entry that is no number is the only one told of."""
    for each in value.values() if isinstance(value, Mapping) else ():
        try:
            _NUMBER.validate_python(each)
        except ValidationError:
            raise ValueError("maps token ids, written as whole numbers, to numbers") from None
    return value


# An error for every element of a long list, for each kind of list, would stop the server for seconds: one is enough.
# They are named types since a union takes only what has a hash, and FailFast has none.
Ids = TypeAliasType("Ids", Annotated[list[Annotated[int, Strict()]], FailFast()])  # strict: true is no token
IdLists = TypeAliasType("IdLists", Annotated[list[Ids], FailFast()])
Strings = TypeAliasType("Strings", Annotated[list[str], FailFast()])
Objects = TypeAliasType("Objects", Annotated[list[dict[str, Any]], FailFast()])
Inputs = str | Ids | Strings | IdLists
Texts = Annotated[Strings, BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
Limit = Annotated[int, Field(ge=-1)]
Biases = Annotated[dict[str, float], BeforeValidator(_only_numbers)]

#: What clients send without meaning anything by it here: read over in silence.
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
#: The names of the reply's limit, the one that counts first; llama.cpp's and Ollama's stand alone or beside those.
_LIMITS = ("max_tokens", "max_completion_tokens", "max_new_tokens")
_FOREIGN_LIMITS = ("n_predict", "num_predict")
#: Settings of other programs, with the values at which they do nothing; at others a warning says so.
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
    "include_obfuscation": (True, False),  # of events' sizes: none is hidden here
    # a chat's; a completion's text is given as it is, whatever is in it
    "include_reasoning": (True, False),
    "parallel_tool_calls": (True, False),
}


class Body(BaseModel):
    """What all bodies share: null is as if absent, and what is unknown is kept to be warned of."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            for key in values:
                utf8(key, "A field's name")  # pydantic would refuse each of them
            return {key: value for key, value in values.items() if value is not None}
        return values

    def strangers(self) -> list[str]:
        """A sentence for each field that means nothing here."""
        known = self._known()
        said = [f"{name}.{each}" for name, body in self if isinstance(body, Body) for each in body.strangers()]
        for name, value in (self.model_extra or {}).items():
            if name == "n_probs" and (getattr(self, "logprobs", None) or "api_type" in (self.model_extra or {})):
                continue  # the same in other words; with api_type, SillyTavern writes one body for all its backends
            if name not in known and value not in _FOREIGN.get(name, ()):
                said.append(f"{name[:60]} has no effect: it is not a field here.")
        return said[:20]

    @classmethod
    def _known(cls) -> Set[str]:
        """The names that mean something here, or nothing anywhere, though they are no fields."""
        return _SILENT


class StreamOptions(Body):
    include_usage: bool = False


class Generation(Body):
    """What both ways of generating take besides the sampling knobs."""

    model: str = Field("", description="Any name: the loaded model answers.")
    stream: bool = Field(False, description="Send the reply while it is written, as server-sent events.")
    stream_options: StreamOptions = StreamOptions()
    max_tokens: Limit | None = Field(None, description="The most tokens of the reply; -1 is what the context leaves.")
    max_completion_tokens: Limit | None = Field(None, description="The same as max_tokens.")
    n: int = Field(1, ge=1, le=128, description="How many replies.")
    stop: Texts = Field([], description="The reply ends before any of these.")
    stopping_strings: Texts = Field([], description="The same as stop.")
    banned_strings: Texts = Field([], description="Words that never appear.")
    bad_words: Texts = Field([], description="The same as banned_strings.")
    stop_token_ids: Ids = Field([], description="Control tokens that end the reply.")
    logit_bias: Biases = Field({}, description="Token id to what is added to its logit; -100 is never.")
    preset: str = Field("", description="A preset's name: its values, then those of this request.")
    response_format: dict[str, Any] | None = Field(None, description="text, json_object or json_schema.")
    json_schema: dict[str, Any] | None = Field(None, description="A schema, as llama-server takes it.")
    guided_json: dict[str, Any] | str | None = Field(None, description="A schema, as vLLM takes it.")
    guided_choice: Strings | None = Field(None, description="The reply is one of these.")
    guided_grammar: str | None = Field(None, description="A GBNF grammar, as grammar_string.")
    grammar: str | None = Field(None, description="A GBNF grammar, as grammar_string.")
    structured_outputs: dict[str, Any] | None = Field(None, description="json, choice or grammar, as vLLM takes it.")

    def params(self, start: SamplingParams) -> SamplingParams:
        """The sampling knobs of this request over those to start with. Raises: InvalidInput."""
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
        """The most tokens of the reply, by whichever name it was given; None where none was."""
        value = next(iter(self._limits().values()), None)
        return None if value is None or value < 0 else value

    def endless(self) -> bool:
        """Whether the reply may have all that the context leaves: -1 says so."""
        return next(iter(self._limits().values()), 0) < 0

    def _limits(self) -> dict[str, int]:
        """By each name that it was given, the one that counts first."""
        extra = self.model_extra or {}
        named: dict[str, Any] = {name: getattr(self, name, None) for name in _LIMITS}
        named.update({name: extra.get(name) for name in _FOREIGN_LIMITS})
        return {name: value for name, value in named.items() if type(value) is int}

    def doubled(self) -> list[str]:
        """A sentence for each name of the limit that says something else than the one that counts."""
        (first, value), *others = [*self._limits().items()] or [("", 0)]
        return [
            f"{name} has no effect: {first} counts." for name, other in others if other != value and name in _LIMITS
        ]

    @classmethod
    def _known(cls) -> Set[str]:
        return _SILENT | set(SamplingParams.spellings()) | set(_FOREIGN_LIMITS)

    def _set(self, names: Sequence[str]) -> list[str]:
        """Those of these fields that the request gives a value other than the usual one."""
        fields = type(self).model_fields
        return [name for name in names if getattr(self, name) != fields[name].get_default(call_default_factory=True)]

    def biases(self) -> dict[int, float]:
        """`logit_bias` by token id. Raises: ValueError, for a key that is no number."""
        return {int(token): value for token, value in self.logit_bias.items()}


class CompletionFields(Generation):
    """POST /v1/completions."""

    prompt: Inputs = Field("", description="Text, token ids, or lists of them.")
    best_of: int | None = Field(None, ge=1, le=128, description="Make so many replies, keep the likeliest n.")
    echo: bool = Field(False, description="Put the prompt before the reply.")
    suffix: str = Field("", description="What follows the reply, for models that fill gaps.")
    logprobs: bool | int | None = Field(None, ge=0, le=1000, description="Log-probabilities of so many candidates.")


class ChatFields(Generation):
    """POST /v1/chat/completions."""

    messages: Objects = Field(description="The conversation, oldest first.")
    tools: Objects = Field([], description="Functions that the model may call.")
    tool_choice: str | dict[str, Any] | None = Field(None, description="auto, none, required, or one function.")
    parallel_tool_calls: bool = Field(True, description="Whether one reply may call several tools; false: one.")
    include_reasoning: bool = Field(True, description="Give what the model thought, in reasoning_content.")
    thinking_budget: int | None = Field(None, ge=0, description="End a thought after so many tokens.")
    thinking_budget_tokens: int | None = Field(None, ge=0, description="The same as thinking_budget.")
    thinking: dict[str, Any] | None = Field(None, description="type enabled or disabled, and budget_tokens.")
    reasoning: dict[str, Any] | None = Field(None, description="effort, as reasoning_effort.")
    continue_final_message: bool = Field(False, description="The same as continue_.")
    add_generation_prompt: bool | None = Field(None, description="Always: the reply's turn is opened.")
    functions: Any = Field(None, description="Not supported: use tools.")
    function_call: Any = Field(None, description="Not supported: use tool_choice.")
    logprobs: bool = Field(False, description="Give log-probabilities.")
    top_logprobs: int = Field(0, ge=0, le=1000, description="Of so many candidates a token.")
    mode: Literal["instruct", "chat", "chat-instruct"] = Field("instruct", description="How the prompt is made.")
    character: str = Field("", description="Who answers in the chat modes.")
    name1: str = Field("", description="What the user is called (also: user_name).")
    name2: str = Field("", description="What the character is called (also: bot_name).")
    user_name: str = ""
    bot_name: str = ""
    context: str = Field("", description="The character's context, in place of the file's.")
    greeting: str = Field("", description="The character's first words, in place of the file's.")
    instruction_template: str = Field("", description="A template's name, in place of the model's own.")
    instruction_template_str: str = Field("", description="A template's text.")
    chat_template_str: str = Field("", description="The template of the chat modes.")
    chat_instruct_command: str = Field("", description="What chat-instruct tells the model.")
    continue_: bool = Field(False, description="Go on with the last message, the assistant's.")
    chat_template_kwargs: dict[str, Any] = Field({}, description="Further values for the template.")
    enable_thinking: bool | None = Field(None, description="For templates that know it.")
    reasoning_effort: str | None = Field(None, description="For templates that know it.")

    def idle(self) -> list[str]:
        """A sentence for each field that has no effect in this mode."""
        names = _IDLE[self.mode]
        said = self._idle_values()
        return said + [f"{name} has no effect in the mode {self.mode}." for name in self._set(names)]

    def values(self) -> dict[str, Any]:
        """What is handed to the template, by whichever name it was given."""
        enabled = {"enabled": True, "disabled": False}.get(str((self.thinking or {}).get("type")))
        effort = (self.reasoning or {}).get("effort")
        given = {
            "enable_thinking": self.enable_thinking if self.enable_thinking is not None else enabled,
            "reasoning_effort": self.reasoning_effort or (effort if isinstance(effort, str) else None),
        }
        return {**self.chat_template_kwargs, **{name: each for name, each in given.items() if each is not None}}

    def budget(self) -> int | None:
        """Tokens that a thought may have, by whichever name."""
        given = (self.thinking or {}).get("budget_tokens")
        told = given if type(given) is int and given >= 0 else None
        return next(
            (each for each in (self.thinking_budget, self.thinking_budget_tokens, told) if each is not None), None
        )

    def _idle_values(self) -> list[str]:
        """A sentence for each key within these objects that means nothing."""
        known = {"thinking": ("type", "budget_tokens"), "reasoning": ("effort",)}
        said = [
            f"{name}.{str(key)[:60]} has no effect: it is not a field here."
            for name, keys in known.items()
            for key in getattr(self, name) or ()
            if key not in keys
        ]
        if self.add_generation_prompt is False and not (self.continue_ or self.continue_final_message):
            said.append(
                "add_generation_prompt has no effect: a reply is always begun; continue_ goes on with the last one."
            )
        return said[:20]


#: Fields of a chat that say nothing to a mode.
_TEMPLATE_VALUES = ("chat_template_kwargs", "enable_thinking", "reasoning_effort")
_IDLE: Mapping[str, Sequence[str]] = {
    "instruct": (
        "character", "name2", "bot_name", "context", "greeting", "chat_template_str", "chat_instruct_command",
    ),
    "chat": ("instruction_template", "instruction_template_str", "chat_instruct_command", *_TEMPLATE_VALUES),
    "chat-instruct": _TEMPLATE_VALUES,
}  # fmt: skip


def _knob_fields(base: type[BaseModel]) -> dict[str, Any]:
    """Every sampling knob as an optional field with its own type, bounds and help."""
    fields: dict[str, Any] = {}
    for name, info in SamplingParams.model_fields.items():
        if name not in base.model_fields:
            kind: Any = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
            fields[name] = (kind | None, Field(None, description=info.description))
    return fields


_KNOBS = frozenset(SamplingParams.model_fields) - set(Generation.model_fields)

if TYPE_CHECKING:

    class CompletionRequest(CompletionFields): ...

    class ChatRequest(ChatFields): ...

    class LogitsFields(Generation):
        prompt: str
        use_samplers: bool
        top_logits: int

        def idle(self) -> list[str]: ...
else:

    class _Logits(Generation):
        prompt: str
        use_samplers: bool = False
        top_logits: int = Field(50, ge=1, le=10_000)

        def idle(self) -> list[str]:
            """A sentence for each field that has no effect since no reply is written, or no sampler used."""
            names = ("stream", "stop", "stopping_strings", "banned_strings", "logit_bias", "n")
            said = [f"{name} has no effect here: no reply is written." for name in self._set(names)]
            if not self.use_samplers and self._set(["response_format"]):
                said.append("response_format has no effect without use_samplers.")
            return said

    CompletionRequest = create_model("CompletionRequest", __base__=CompletionFields, **_knob_fields(CompletionFields))
    ChatRequest = create_model("ChatRequest", __base__=ChatFields, **_knob_fields(ChatFields))
    LogitsFields = create_model("LogitsRequest", __base__=_Logits, **_knob_fields(_Logits))


class EmbeddingsRequest(Body):
    """POST /v1/embeddings."""

    input: Inputs
    model: str = ""
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1)


class ModerationsRequest(Body):
    input: str | list[Any]
    model: str = ""


class TextBody(Body):
    text: str = Field(max_length=50_000_000)


class TokensBody(Body):
    tokens: Ids


class LoadBody(Body):
    model_name: str
    loader: str | None = None
    args: dict[str, Any] = {}
    settings: dict[str, Any] = {}


class LorasBody(Body):
    lora_names: Strings
