"""Our own routes below /v1/internal: tokens, the prompt of a chat, the next token, the model in memory."""

from __future__ import annotations

import threading
from typing import Any

from fastapi import APIRouter, Request

from errors import InvalidInput
from loaders import LOADERS
from modules.api.completions import warned
from modules.api.fields import ChatRequest, LoadBody, LogitsFields, LorasBody, TextBody, TokensBody
from modules.api.generate import LABEL, asked_chat, asked_params, label_of
from modules.api.work import Workers
from modules.app import App


async def health() -> dict[str, str]:
    """That the server is there: also while a model loads, and without a key."""
    return {"status": "ok"}


def routes(app: App, workers: Workers) -> APIRouter:
    router = APIRouter(prefix="/v1/internal", tags=["internal"])

    router.add_api_route("/health", health)

    @router.post("/encode")
    async def encode(body: TextBody) -> dict[str, Any]:
        tokens = await workers.short(lambda: app.generator.session().encode(body.text))
        return {"tokens": tokens, "length": len(tokens), **warned(body.strangers())}

    @router.post("/decode")
    async def decode(body: TokensBody) -> dict[str, Any]:
        text = await workers.short(lambda: app.generator.session().decode(body.tokens))
        return {"text": text, **warned(body.strangers())}

    @router.post("/token-count")
    async def token_count(body: TextBody) -> dict[str, Any]:
        length = await workers.short(lambda: app.generator.session().count(body.text))
        return {"length": length, **warned(body.strangers())}

    @router.post("/logits")
    async def logits(request: Request, body: LogitsFields) -> dict[str, Any]:
        cancel = threading.Event()

        def look() -> tuple[dict[str, float], list[str]]:
            params, notes = asked_params(app, body)
            found, warnings = app.generator.session().next_tokens(
                body.prompt, params, body.top_logits, sampled=body.use_samplers, label=label_of(request), cancel=cancel
            )
            return found, [*notes, *body.idle(), *warnings]

        found, warnings = await workers.long(request, look, cancel)
        return {"logits": found, **warned(warnings)}

    @router.post("/chat-prompt")
    async def chat_prompt(request: Request, body: ChatRequest) -> dict[str, Any]:
        opened, _, notes = await asked_chat(app, workers, request, body)
        return {"prompt": opened.text, **warned(notes)}

    @router.post("/stop-generation")
    async def stop_generation(request: Request) -> dict[str, Any]:
        """Stops what the API runs; with the admin key (or where there is no key) also what the page runs."""
        whose = "" if request.scope.get("is_admin") else LABEL
        return {"stopped": await workers.short(lambda: app.completions.stop(whose))}

    @router.post("/end-thought")
    async def end_thought() -> dict[str, Any]:
        """Lets the replies of the API that are thinking come to their answers now."""
        return {"ended": await workers.short(app.completions.end_thoughts)}

    @router.get("/queue")
    async def queue() -> dict[str, Any]:
        entries = app.generator.queue()
        names = ("id", "label", "place", "prompt_tokens", "new_tokens", "tokens_per_second")
        return {"queue": [{name: getattr(entry, name) for name in names} for entry in entries]}

    @router.get("/model/info")
    async def model_info() -> dict[str, Any]:
        model = app.models.loaded
        names = [each.path.stem for each in model.loras] if model else []
        known = {"context_length": model.context_length} if model else {}
        return {"model_name": model.name if model else "None", "lora_names": names, **known}

    @router.get("/model/list")
    async def model_list() -> dict[str, Any]:
        return {"model_names": await workers.short(app.shelf.names)}

    @router.post("/model/load")
    async def model_load(request: Request, body: LoadBody) -> dict[str, Any]:
        loads = {name for loader in LOADERS.values() for name in (*loader.Options.spellings(), "loader")}
        options = {**body.args, **{name: value for name, value in body.settings.items() if name in loads}}
        idle = [f"settings.{name[:60]} has no effect: send it with each request." for name in body.settings
                if name not in loads]  # fmt: skip
        loader = options.pop("loader", None) or body.loader
        if loader is not None and not isinstance(loader, str):
            raise InvalidInput("args.loader is the name of a loader.")
        cancel = threading.Event()  # a load goes on when its client goes away
        model = await workers.long(request, lambda: app.models.load(body.model_name, loader, options), cancel)
        return {"model_name": model.name, "notes": list(app.models.state.notes), **warned([*body.strangers(), *idle])}

    @router.post("/model/unload")
    async def model_unload(request: Request) -> dict[str, Any]:
        await workers.long(request, app.models.unload, threading.Event())
        return {"status": "ok"}

    @router.get("/lora/list")
    async def lora_list() -> dict[str, Any]:
        return {"lora_names": await workers.short(app.lora_names)}

    @router.post("/lora/load")
    async def lora_load(request: Request, body: LorasBody) -> dict[str, Any]:
        await workers.long(request, lambda: app.use_loras(body.lora_names), threading.Event())
        return {"status": "ok", **warned(body.strangers())}

    @router.post("/lora/unload")
    async def lora_unload(request: Request) -> dict[str, Any]:
        await workers.long(request, lambda: app.use_loras([]), threading.Event())
        return {"status": "ok"}

    return router
