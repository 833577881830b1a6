"""Our own routes under /v1/internal: tokens, a chat's prompt, the next token, the loaded model."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import APIRouter, Request

from errors import InvalidInput
from loaders import LOADERS
from modules.api.completions import warnings_field
from modules.api.generate import LABEL, client_label, prepare_chat, request_params
from modules.api.request_models import ChatRequest, LoadBody, LogitsFields, LorasBody, TextBody, TokensBody, UnloadBody
from modules.api.threadpools import Threadpools
from modules.app import App
from modules.generation.session import ModelSession

T = TypeVar("T")


async def health() -> dict[str, str]:
    """Whether the server is up: also while a model loads, and without a key."""
    return {"status": "ok"}


def routes(app: App, workers: Threadpools) -> APIRouter:
    router = APIRouter(prefix="/v1/internal", tags=["internal"])

    router.add_api_route("/health", health)

    async def with_model(request: Request, function: Callable[[ModelSession], T]) -> T:
        return await workers.for_model(request, lambda: function(app.generator.session()), ready=app.router.ready())

    @router.post("/encode")
    async def encode(request: Request, body: TextBody) -> dict[str, Any]:
        tokens = await with_model(request, lambda session: session.encode(body.text))
        return {"tokens": tokens, "length": len(tokens), **warnings_field(body.unknown_fields())}

    @router.post("/decode")
    async def decode(request: Request, body: TokensBody) -> dict[str, Any]:
        text = await with_model(request, lambda session: session.decode(body.tokens))
        return {"text": text, **warnings_field(body.unknown_fields())}

    @router.post("/token-count")
    async def token_count(request: Request, body: TextBody) -> dict[str, Any]:
        length = await with_model(request, lambda session: session.count(body.text))
        return {"length": length, **warnings_field(body.unknown_fields())}

    @router.post("/logits")
    async def logits(request: Request, body: LogitsFields) -> dict[str, Any]:
        cancel = threading.Event()

        def look() -> tuple[dict[str, float], list[str]]:
            params, notes = request_params(app, body)
            session = app.generator.session(body.model)
            found, warnings = session.next_tokens(
                body.prompt,
                params,
                body.top_logits,
                sampled=body.use_samplers,
                label=client_label(request),
                cancel=cancel,
            )
            return found, [*notes, *body.idle(), *session.notes, *warnings]

        found, warnings = await workers.long(request, look, cancel)
        return {"logits": found, **warnings_field(warnings)}

    @router.post("/chat-prompt")
    async def chat_prompt(request: Request, body: ChatRequest) -> dict[str, Any]:
        ask = await prepare_chat(app, workers, request, body)
        return {"prompt": ask.prompts[0], **warnings_field([*ask.notes, *(ask.session.notes if ask.session else ())])}

    @router.post("/stop-generation")
    async def stop_generation(request: Request) -> dict[str, Any]:
        """Stop the API's requests; with the admin key (or if there is no key) also the page's."""
        whose = "" if request.scope.get("is_admin") else LABEL
        return {"stopped": await workers.short(lambda: app.completions.stop(whose))}

    @router.post("/end-thought")
    async def end_thought() -> dict[str, Any]:
        """End the reasoning of the API's running replies, so that they continue with their answers."""
        return {"ended": await workers.short(app.completions.end_thoughts)}

    @router.get("/queue")
    async def queue() -> dict[str, Any]:
        entries = app.generator.queue()
        names = ("id", "label", "place", "prompt_tokens", "new_tokens", "tokens_per_second")
        return {"queue": [{name: getattr(entry, name) for name in names} for entry in entries]}

    @router.get("/model/info")
    async def model_info() -> dict[str, Any]:
        memory = app.models.memory
        entry = memory.default
        names = [each.path.stem for each in entry.model.loras] if entry else []
        known = {"context_length": entry.model.context_length} if entry else {}
        # a model unloaded as idle is available for the next request, but clients stop if the name is None
        name = entry.name if entry else next((each.plan.name for each in memory.all_idle), "None")
        return {"model_name": name, "lora_names": names, **known}

    @router.get("/model/list")
    async def model_list() -> dict[str, Any]:
        return {"model_names": await workers.short(app.catalog.names)}

    @router.post("/model/load")
    async def model_load(request: Request, body: LoadBody) -> dict[str, Any]:
        loads = {name for loader in LOADERS.values() for name in (*loader.Options.spellings(), "loader")}
        options = {**body.args, **{name: value for name, value in body.settings.items() if name in loads}}
        idle = [f"settings.{name[:60]} was ignored: send it with each request instead." for name in body.settings
                if name not in loads]  # fmt: skip
        loader = options.pop("loader", None) or body.loader
        if loader is not None and not isinstance(loader, str):
            raise InvalidInput("args.loader must be the name of a loader.")

        def load() -> str:
            model = app.models.load(body.model_name, loader, options)
            return app.models.memory.hold(model).name

        name = await workers.long(request, load, threading.Event())  # it continues if its client disconnects
        return {
            "model_name": name,
            "notes": list(app.models.state.notes),
            **warnings_field([*body.unknown_fields(), *idle]),
        }

    @router.post("/model/unload")
    async def model_unload(request: Request, body: UnloadBody | None = None) -> dict[str, Any]:
        """Unload a model, or all of them; cancel its load if it is being loaded."""
        asked = body or UnloadBody()
        # at once: the threads for long work may all be waiting for the load
        cancelled = await workers.short(functools.partial(app.models.cancel_load, asked.model_name))
        unload = functools.partial(app.models.unload, asked.model_name, wait=asked.wait, cancelled=cancelled)
        await workers.long(request, unload, threading.Event())
        told = {"cancelled": cancelled} if cancelled else {}
        return {"status": "ok", **told, **warnings_field(asked.unknown_fields())}

    @router.get("/lora/list")
    async def lora_list() -> dict[str, Any]:
        return {"lora_names": await workers.short(app.lora_names)}

    @router.post("/lora/load")
    async def lora_load(request: Request, body: LorasBody) -> dict[str, Any]:
        await workers.long(request, lambda: app.use_loras(body.lora_names), threading.Event())
        return {"status": "ok", **warnings_field(body.unknown_fields())}

    @router.post("/lora/unload")
    async def lora_unload(request: Request) -> dict[str, Any]:
        await workers.long(request, lambda: app.use_loras([]), threading.Event())
        return {"status": "ok"}

    return router
