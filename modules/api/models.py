"""GET /v1/models, POST /v1/embeddings, POST /v1/moderations."""

from __future__ import annotations

import base64
import threading
import time
from typing import Any

from fastapi import APIRouter, Request

from errors import InvalidInput, UnknownName
from modules.api.completions import warnings_field
from modules.api.request_models import EmbeddingsRequest, ModerationsRequest
from modules.api.threadpools import Threadpools
from modules.app import App


def routes(app: App, workers: Threadpools) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["models"])
    since = int(time.time())

    def entry(name: str) -> dict[str, Any]:
        """By the name in the list of models, whether it is loaded or not, and however the request spells it."""
        found = app.models.memory.find(name)
        name = found.name if found else name
        known = {"max_model_len": found.model.context_length} if found else {}  # vLLM's name for it
        return {
            "id": name, "object": "model", "created": since, "owned_by": "user", "loaded": found is not None, **known
        }  # fmt: skip

    @router.head("/models", include_in_schema=False)
    @router.get("/models")
    async def models() -> dict[str, Any]:
        """The models that answer: those in memory; with --load-on-demand, also those in the models folder."""
        names = await workers.short(app.router.names)
        return {"object": "list", "data": [entry(name) for name in names]}

    @router.get("/models/{name:path}")
    async def one_model(name: str) -> dict[str, Any]:
        if not name:  # /v1/models/
            return await models()
        if app.models.memory.find(name):
            return entry(name)
        try:
            found = await workers.short(lambda: app.catalog.find(name))
        except UnknownName:
            known = await workers.short(app.catalog.names)
            loaded = [each.name for each in app.models.memory.all]
            raise UnknownName("model", name[:200], [*loaded, *known]) from None
        return entry(found.name)

    @router.post("/embeddings")
    async def embeddings(request: Request, body: EmbeddingsRequest) -> dict[str, Any]:
        given: Any = body.input
        inputs = [given] if isinstance(given, str) or (given and isinstance(given[0], int)) else given
        cancel = threading.Event()
        session = await workers.long(request, lambda: app.generator.embedding_session(body.model), cancel)
        found = await workers.long(request, lambda: session.embed(inputs, cancel), cancel)
        if body.dimensions is not None and body.dimensions != found.vectors.shape[1]:
            raise InvalidInput(f"dimensions: this model only returns {found.vectors.shape[1]} dimensions.")
        as_text = body.encoding_format == "base64"
        data = [
            {
                "object": "embedding",
                "index": i,
                "embedding": base64.b64encode(row.astype("<f4").tobytes()).decode() if as_text else row.tolist(),
            }
            for i, row in enumerate(found.vectors)
        ]
        usage = {"prompt_tokens": found.tokens, "total_tokens": found.tokens}
        return {
            "object": "list",
            "data": data,
            "model": found.model,
            "usage": usage,
            **warnings_field([*body.unknown_fields(), *session.notes]),
        }

    @router.post("/moderations")
    async def moderations(body: ModerationsRequest) -> dict[str, Any]:
        """Always unflagged: there is no moderation model here, and the response says so."""
        inputs = [body.input] if isinstance(body.input, str) else body.input
        result = {"flagged": False, "categories": {}, "category_scores": {}, "category_applied_input_types": {}}
        return {
            "id": "modr-none",
            "model": "none",
            "results": [result for _ in inputs[:10_000]],
            "warnings": [
                "No moderation model is available, so nothing was checked or flagged.",
                *body.unknown_fields(),
            ],
        }

    return router
