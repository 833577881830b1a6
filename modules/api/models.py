"""GET /v1/models, POST /v1/embeddings, POST /v1/moderations."""

from __future__ import annotations

import base64
import threading
import time
from typing import Any

from fastapi import APIRouter, Request

from errors import InvalidInput, UnknownName
from modules.api.completions import warned
from modules.api.fields import EmbeddingsRequest, ModerationsRequest
from modules.api.work import Workers
from modules.app import App


def routes(app: App, workers: Workers) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["models"])
    since = int(time.time())

    def entry(name: str) -> dict[str, Any]:
        model = app.models.loaded
        known = {"max_model_len": model.context_length} if model and model.name == name else {}  # as vLLM calls it
        return {"id": name, "object": "model", "created": since, "owned_by": "user", **known}

    @router.head("/models", include_in_schema=False)
    @router.get("/models")
    async def models() -> dict[str, Any]:
        """The model in memory. Others on the disk are in /v1/internal/model/list."""
        model = app.models.loaded
        return {"object": "list", "data": [entry(model.name)] if model else []}

    @router.get("/models/{name:path}")
    async def one_model(name: str) -> dict[str, Any]:
        if not name:  # /v1/models/
            return await models()
        model = app.models.loaded
        known = [*([model.name] if model else []), *await workers.short(app.shelf.names)]
        if name not in known and f"{name}.gguf" not in known:
            raise UnknownName("model", name[:200], known)
        return entry(name)

    @router.post("/embeddings")
    async def embeddings(request: Request, body: EmbeddingsRequest) -> dict[str, Any]:
        given: Any = body.input
        inputs = [given] if isinstance(given, str) or (given and isinstance(given[0], int)) else given
        cancel = threading.Event()
        found = await workers.long(request, lambda: app.generator.session().embed(inputs, cancel), cancel)
        if body.dimensions is not None and body.dimensions != found.vectors.shape[1]:
            raise InvalidInput(f"dimensions: this model's vectors have {found.vectors.shape[1]}, and no other number.")
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
            **warned(body.strangers()),
        }

    @router.post("/moderations")
    async def moderations(body: ModerationsRequest) -> dict[str, Any]:
        """Nothing is judged: there is no moderation model here, and the answer says so."""
        inputs = [body.input] if isinstance(body.input, str) else body.input
        result = {"flagged": False, "categories": {}, "category_scores": {}, "category_applied_input_types": {}}
        return {
            "id": "modr-none",
            "model": "none",
            "results": [result for _ in inputs[:10_000]],
            "warnings": [
                "Nothing was judged: this program has no moderation model, so nothing is ever flagged.",
                *body.strangers(),
            ],
        }

    return router
