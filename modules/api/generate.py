"""The two routes that generate: a body becomes an Ask, the Ask's answers become a response."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import APIRouter, Request, Response

from errors import InvalidInput, Unsupported, utf8
from loaders.params import SamplingParams
from modules.api import chat, completions
from modules.api.ascii_json import AsciiJSON
from modules.api.fields import ChatFields, ChatRequest, CompletionFields, CompletionRequest, Generation
from modules.api.forms import formed
from modules.api.stream import EventStream
from modules.api.work import Workers, collect
from modules.app import App
from modules.chat.dialogue import Dialogue, Opened
from modules.families.reading import Reading
from modules.generation.completions import Ask

log = logging.getLogger(__name__)

#: Every request of the API has a label that begins so, in the queue's view and for stop-generation.
LABEL = "API"


def routes(app: App, workers: Workers) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/completions", tags=["generate"])
    async def complete(request: Request, body: CompletionRequest) -> Response:
        """What follows a prompt, whole or streamed."""
        ask, notes = await workers.short(lambda: completion_ask(app, body, label_of(request)))
        request.scope["place"].widen(ask.replies)
        answers = await workers.short(lambda: app.completions.start(ask))
        answers.warnings[:0] = notes
        given = ask.alternatives is not None
        if body.stream:
            usage = body.stream_options.include_usage
            return EventStream(answers, completions.Chunks(answers, with_logprobs=given, with_usage=usage))
        await collect(request, answers)
        return AsciiJSON(completions.whole(answers, with_logprobs=given))

    @router.post("/v1/chat/completions", tags=["generate"])
    async def converse(request: Request, body: ChatRequest) -> Response:
        """The next message of a conversation, whole or streamed."""
        opened, ask, notes = await asked_chat(app, workers, request, body)
        request.scope["place"].widen(ask.replies)
        answers = await workers.short(lambda: app.completions.start(ask))
        answers.warnings[:0] = notes
        reading = opened.reading
        if is_formed(body):  # a reply of a form that the client has chosen is neither call nor thought
            reading = Reading()
        form = chat.Form(reading, thoughts=body.include_reasoning, one_call=not body.parallel_tool_calls)
        how: dict[str, Any] = {"with_logprobs": body.logprobs, "form": form}
        if body.stream:
            return EventStream(answers, chat.Chunks(answers, with_usage=body.stream_options.include_usage, **how))
        await collect(request, answers)
        return AsciiJSON(chat.whole(answers, **how))

    return router


async def asked_chat(app: App, workers: Workers, request: Request, body: ChatFields) -> tuple[Opened, Ask, list[str]]:
    """`chat_ask`, where it keeps nobody else waiting. Raises: UserError."""

    def ask() -> tuple[Opened, Ask, list[str]]:
        return chat_ask(app, body, label_of(request))

    if body.instruction_template_str or body.chat_template_str:
        return await workers.template(request, ask)
    return await workers.short(ask)


def is_formed(body: Generation) -> bool:
    """Whether the reply is to be JSON."""
    chosen = (body.json_schema, body.guided_json, body.guided_choice, body.structured_outputs)
    return (body.response_format or {}).get("type", "text") != "text" or any(each is not None for each in chosen)


def label_of(request: Request) -> str:
    return f"{LABEL} {request.scope.get('request_id', '')}"


def completion_ask(app: App, body: CompletionFields, label: str) -> tuple[Ask, list[str]]:
    """Raises: UserError."""
    params, notes = asked_params(app, body)
    best_of = body.best_of or body.n
    if best_of < body.n:
        raise InvalidInput("best_of is at least n.")
    if best_of > body.n and body.stream:
        raise InvalidInput("best_of cannot be streamed: which reply is the best is known at the end.")
    prompt: Any = body.prompt
    alone = isinstance(prompt, str) or (bool(prompt) and isinstance(prompt[0], int))
    limit = body.limit()
    ask = Ask(
        prompts=[prompt] if alone else prompt,
        max_tokens=_asked(params, limit),
        best_of=best_of,
        alternatives=None if body.logprobs is None or body.logprobs is False else int(body.logprobs),
        suffix=body.suffix,
        echo=body.echo,
        label=label,
        **_shared(app, body, params, notes),
    )
    if body.echo and ask.alternatives:
        notes.append("top_logprobs of the prompt's tokens hold only the token itself.")
    for each in ask.prompts:
        log.debug("%s prompt: %s", label, each)
    return ask, notes


def chat_ask(app: App, body: ChatFields, label: str) -> tuple[Opened, Ask, list[str]]:
    """Raises: UserError."""
    if body.functions is not None or body.function_call is not None:
        raise Unsupported("functions and function_call are of an older API. Send tools and tool_choice.")
    params, notes = asked_params(app, body)
    if body.top_logprobs and not body.logprobs:
        notes.append("top_logprobs has no effect without logprobs.")
    notes += body.idle()
    opened = app.dialogues.open(
        Dialogue(
            messages=body.messages,
            mode=body.mode,
            character=body.character,
            name1=body.name1 or body.user_name,
            name2=body.name2 or body.bot_name,
            context=body.context,
            greeting=body.greeting,
            instruction_template=body.instruction_template,
            instruction_template_str=body.instruction_template_str,
            chat_template_str=body.chat_template_str,
            command=body.chat_instruct_command,
            continue_=body.continue_ or body.continue_final_message,
            tools=body.tools,
            tool_choice=body.tool_choice,
            template_values=body.values(),
        ),
        params,
    )
    if opened.context:
        params = opened.context.params
    if opened.grammar:
        if params.grammar_string.strip():
            raise InvalidInput(
                "A tool_choice that wants a call excludes response_format and grammar_string. Send one of them."
            )
        params = params.changed(grammar_string=opened.grammar)
    limit = body.limit()
    shared = _shared(app, body, params, notes)
    shared["stop"] = [*opened.stop, *shared["stop"]]
    ask = Ask(
        prompts=[opened.text],
        max_tokens=limit,
        best_of=body.n,
        alternatives=body.top_logprobs if body.logprobs else None,
        label=label,
        context=opened.context,
        reading=opened.reading,
        thinking_budget=_budget(body, params, notes),
        session=opened.session,
        **shared,
    )
    log.debug("%s prompt: %s", label, opened.text)
    return opened, ask, [*notes, *opened.notes]


def _budget(body: ChatFields, params: SamplingParams, notes: list[str]) -> int | None:
    """How many tokens a thought may have. A grammar leaves no room for the mark that would end it."""
    budget = body.budget()
    if budget is not None and params.grammar_string.strip():
        notes.append("thinking_budget has no effect: the reply is bound by a grammar.")
        return None
    return budget


def _asked(params: SamplingParams, limit: int | None) -> int | None:
    """How many tokens a completion may have: the knob's default where nothing is said, so that it always ends."""
    if limit is not None:
        return limit
    return None if params.auto_max_new_tokens else params.max_new_tokens


def asked_params(app: App, body: Generation) -> tuple[SamplingParams, list[str]]:
    """The knobs of a request, and what is to be said about its fields. Raises: UserError."""
    start = app.launch_params()
    if body.preset:
        start = app.presets.apply(start, body.preset)
    limit = body.limit()
    params = body.params(start)
    if limit is not None:
        params = params.changed(max_new_tokens=max(limit, 1))
    utf8(params.grammar_string, "grammar_string")
    if body.endless():
        params = params.changed(auto_max_new_tokens=True)
    grammar, notes = formed(body)
    if grammar:
        if params.grammar_string.strip():
            raise InvalidInput("response_format and grammar_string exclude each other. Send one of them.")
        params = params.changed(grammar_string=grammar)
    return params, [*body.strangers(), *body.doubled(), *notes]


def _shared(app: App, body: Generation, params: SamplingParams, notes: list[str]) -> dict[str, Any]:
    try:
        bias = body.biases()
    except ValueError:
        raise InvalidInput("logit_bias maps token ids, written as whole numbers, to numbers.") from None
    return {
        "params": params,
        "stream": body.stream,
        "stop": [string for string in [*body.stop, *body.stopping_strings, *_ends(app, body, notes)] if string],
        "n": body.n,
        "logit_bias": bias,
        "banned_strings": [*body.banned_strings, *body.bad_words],
    }


def _ends(app: App, body: Generation, notes: list[str]) -> list[str]:
    """The names of the control tokens that are to end the reply."""
    if not body.stop_token_ids:
        return []
    tokenizer = app.generator.session().model.tokenizer
    control = [each for each in body.stop_token_ids if 0 <= each < tokenizer.n_vocab and tokenizer.is_special(each)]
    others = [each for each in body.stop_token_ids if each not in control]
    if others:
        notes.append(f"stop_token_ids: {others[0]} is no control token, so it ends nothing. Send a text in stop.")
    return [tokenizer.piece(each, special=True).decode("utf-8", "replace") for each in control]
