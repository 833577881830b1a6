"""The two routes that generate text: a body becomes a GenerationRequest, its completions become a response."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response

from errors import InvalidInput, encode_utf8
from loaders.banned.entries import join_banned_strings
from loaders.params import SamplingParams
from modules.api import chat, completions
from modules.api.ascii_json import AsciiJSON
from modules.api.event_stream import EventStream
from modules.api.reply_grammar import reply_grammar
from modules.api.request_models import ChatFields, ChatRequest, CompletionFields, CompletionRequest, GenerationFields
from modules.api.threadpools import Threadpools, collect_replies
from modules.app import App
from modules.families.reply_format import ReplyFormat
from modules.generation.completions import GenerationRequest
from modules.generation.session import ModelSession

log = logging.getLogger(__name__)

#: The label prefix of every request of the API, in the queue view and for stop-generation.
LABEL = "API"


def routes(app: App, workers: Threadpools) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/completions", tags=["generate"])
    async def complete(request: Request, body: CompletionRequest) -> Response:
        """Continue a prompt, streamed or not."""
        ask = await prepare(app, workers, request, body, lambda: completion_request(app, body, client_label(request)))
        request.scope["place"].widen(ask.replies)
        answers = await workers.short(lambda: app.completions.start(ask))
        given = ask.alternatives is not None
        if body.stream:
            usage = body.stream_options.include_usage
            shape = completions.CompletionChunks(answers, with_logprobs=given, with_usage=usage)
            return EventStream(answers, shape, workers.loop)
        await collect_replies(request, answers, workers.loop)
        return AsciiJSON(completions.completion_response(answers, with_logprobs=given))

    @router.post("/v1/chat/completions", tags=["generate"])
    async def converse(request: Request, body: ChatRequest) -> Response:
        """Write the next message of a conversation, streamed or not."""
        ask = await prepare_chat(app, workers, request, body)
        request.scope["place"].widen(ask.replies)
        answers = await workers.short(lambda: app.completions.start(ask))
        # a reply in a form that the client has chosen contains no call or reasoning
        reading = ask.reading if ask.reading and not wants_json(body) else ReplyFormat()
        old = body.functions is not None
        form = chat.ChatReplyFormat(
            reading, body.include_reasoning, one_call=old or not body.parallel_tool_calls, old=old
        )
        how: dict[str, Any] = {"with_logprobs": body.logprobs, "form": form}
        if body.stream:
            usage = body.stream_options.include_usage
            return EventStream(answers, chat.ChatChunks(answers, with_usage=usage, **how), workers.loop)
        await collect_replies(request, answers, workers.loop)
        return AsciiJSON(chat.chat_response(answers, **how))

    return router


async def prepare_chat(app: App, workers: Threadpools, request: Request, body: ChatFields) -> GenerationRequest:
    """`chat_request` in a thread where it delays nobody else. Raises: UserError."""

    def ask() -> GenerationRequest:
        return chat_request(app, body, client_label(request))

    if body.instruction_template_str or body.chat_template_str:
        return await workers.template(request, ask)
    return await prepare(app, workers, request, body, ask)


async def prepare(
    app: App, workers: Threadpools, request: Request, body: GenerationFields, ask: Callable[[], GenerationRequest]
) -> GenerationRequest:
    """The result of `ask`, which may have to wait for the model to be loaded. Raises: UserError."""
    return await workers.for_model(request, ask, ready=app.router.ready(body.model))


def wants_json(body: GenerationFields) -> bool:
    """Whether the reply must be JSON."""
    chosen = (body.json_schema, body.guided_json, body.guided_choice, body.structured_outputs)
    return (body.response_format or {}).get("type", "text") != "text" or any(each is not None for each in chosen)


def client_label(request: Request) -> str:
    return f"{LABEL}: {request.scope.get('request_id', '')}"


def completion_request(app: App, body: CompletionFields, label: str) -> GenerationRequest:
    """Convert the body. Raises: UserError."""
    params, notes = request_params(app, body)
    best_of = body.best_of or body.n
    if best_of < body.n:
        raise InvalidInput("best_of must be >= n.")
    if best_of > body.n and body.stream:
        raise InvalidInput("best_of cannot be used with stream: the best reply is only known at the end.")
    prompt: Any = body.prompt
    alone = isinstance(prompt, str) or (bool(prompt) and isinstance(prompt[0], int))
    limit = body.limit()
    session = app.generator.session(body.model)
    ask = GenerationRequest(
        prompts=[prompt] if alone else prompt,
        max_tokens=_asked(params, limit),
        best_of=best_of,
        alternatives=None if body.logprobs is None or body.logprobs is False else int(body.logprobs),
        suffix=body.suffix,
        echo=body.echo,
        label=label,
        notes=notes,
        session=session,
        **_shared(session, body, params, notes),
    )
    if body.echo and ask.alternatives:
        notes.append("top_logprobs of prompt tokens contain only the token itself.")
    for each in ask.prompts:
        log.debug("%s prompt: %s", label, each)
    return ask


def chat_request(app: App, body: ChatFields, label: str) -> GenerationRequest:
    """Convert the body. Raises: UserError."""
    body = body.convert_functions()
    params, notes = request_params(app, body)
    if body.top_logprobs and not body.logprobs:
        notes.append("top_logprobs has no effect without logprobs.")
    notes += body.idle()
    chat = app.chat_prompts.open(body, params)
    params = chat.params
    if chat.tool_grammar:
        if params.grammar_string.strip():
            raise InvalidInput(
                "A tool_choice that requires a call cannot be combined with response_format or grammar_string. "
                "Send only one of them."
            )
        params = params.changed(grammar_string=chat.tool_grammar)
    limit = body.limit()
    assert chat.session
    shared = _shared(chat.session, body, params, notes)
    shared["stop"] = [*chat.stop, *shared["stop"]]
    log.debug("%s prompt: %s", label, chat.prompts[0])
    budget = _budget(body, params, notes)
    return replace(
        chat,
        max_tokens=limit,
        best_of=body.n,
        alternatives=body.top_logprobs if body.logprobs else None,
        label=label,
        thinking_budget=budget,
        notes=[*notes, *chat.notes],
        **shared,
    )


def _budget(body: ChatFields, params: SamplingParams, notes: list[str]) -> int | None:
    """The most tokens of reasoning. Not possible with a grammar, which does not allow the closing mark."""
    budget = body.find_thinking_budget()
    if budget is not None and params.grammar_string.strip():
        notes.append("thinking_budget has no effect: the reply must follow a grammar.")
        return None
    return budget


def _asked(params: SamplingParams, limit: int | None) -> int | None:
    """The most tokens of a completion: the knob's default if none is given, so that it always ends."""
    if limit is not None:
        return limit
    return None if params.auto_max_new_tokens else params.max_new_tokens


def request_params(app: App, body: GenerationFields) -> tuple[SamplingParams, list[str]]:
    """The knobs of a request, and warnings about its fields. Raises: UserError."""
    start = app.launch_params()
    if body.preset:
        start = app.presets.apply(start, body.preset)
    limit = body.limit()
    params = body.params(start)
    if limit is not None:
        params = params.changed(max_new_tokens=max(limit, 1))
    encode_utf8(params.grammar_string, "grammar_string")
    if body.endless():
        params = params.changed(auto_max_new_tokens=True)
    if body.bad_words:
        params = params.changed(
            banned_strings=join_banned_strings([params.banned_strings, json.dumps(list(body.bad_words))])
        )
    grammar, notes = reply_grammar(body)
    if grammar:
        if params.grammar_string.strip():
            raise InvalidInput("response_format and grammar_string cannot be combined. Send only one of them.")
        params = params.changed(grammar_string=grammar)
    return params, [*body.unknown_fields(), *body.doubled(), *notes]


def _shared(session: ModelSession, body: GenerationFields, params: SamplingParams, notes: list[str]) -> dict[str, Any]:
    try:
        bias = body.biases()
    except ValueError:
        raise InvalidInput("logit_bias must map integer token ids to numbers.") from None
    if params.min_length and params.grammar_string.strip():
        notes.append("min_length (min_tokens) only applies as long as the grammar allows the reply to continue.")
    return {
        "params": params,
        "stream": body.stream,
        "stop": [string for string in [*body.stop, *body.stopping_strings, *_ends(session, body, notes)] if string],
        "n": body.n,
        "logit_bias": bias,
    }


def _ends(session: ModelSession, body: GenerationFields, notes: list[str]) -> list[str]:
    """The names of the control tokens that end the reply."""
    if not body.stop_token_ids:
        return []
    tokenizer = session.model.tokenizer
    control = [each for each in body.stop_token_ids if 0 <= each < tokenizer.n_vocab and tokenizer.is_special(each)]
    others = [each for each in body.stop_token_ids if each not in control]
    if others:
        notes.append(
            f"stop_token_ids: {others[0]} is not a control token and was ignored. Use stop with a string instead."
        )
    return [tokenizer.piece(each, special=True).decode("utf-8", "replace") for each in control]
