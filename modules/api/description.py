"""The API's OpenAPI description, with corrections: errors are OpenAI's error object, keys are bearer tokens, and a
reply may be an event stream. FastAPI generates the rest from the routes.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

_ERRORS = {
    "400": "Invalid request, or a prompt that does not fit into the context.",
    "401": "Missing or wrong API key.",
    "403": "Request from an origin that is not allowed.",
    "404": "Not found.",
    "409": "In use, or cancelled.",
    "413": "Request body too large.",
    "429": "Too many requests at the same time.",
    "503": "No model loaded, or temporarily unavailable.",
}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_STREAMED = ("/v1/completions", "/v1/chat/completions")
_TEXTS = ("stop", "stopping_strings", "bad_words")
_LISTS = ("banned_strings",)  # a text, or a list of texts


def install_description(api: FastAPI) -> None:
    """Let the application return this description."""
    made = api.openapi

    def openapi() -> dict[str, Any]:
        if api.openapi_schema is None:
            _complete(made())
        assert api.openapi_schema is not None
        return api.openapi_schema

    api.openapi = openapi  # type: ignore[method-assign]


def _complete(schema: dict[str, Any]) -> None:
    schema["servers"] = [{"url": "/"}]
    parts = schema.setdefault("components", {})
    parts.setdefault("schemas", {})["Error"] = _ERROR
    for unused in ("HTTPValidationError", "ValidationError"):
        parts["schemas"].pop(unused, None)
    parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    errors = {
        status: {
            "description": why,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
        for status, why in _ERRORS.items()
    }
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            operation["responses"].update(errors)
            operation["security"] = [{}, {"key": []}]  # if keys are set
            if told := operation.get("description"):
                operation["summary"] = told.partition("\n")[0].rstrip(".")
            if path in _STREAMED:
                content = operation["responses"]["200"].setdefault("content", {})
                content["application/json"] = {"schema": {"type": "object"}}
                content["text/event-stream"] = {"schema": {"type": "string"}}
    for each in parts["schemas"].values():
        for name in _TEXTS:
            given = each.get("properties", {}).get(name)
            if given:  # a text is accepted like a list of one
                texts = {key: given.pop(key) for key in ("type", "items", "$ref") if key in given}
                given["anyOf"] = [{"type": "string"}, texts]
        for name in _LISTS:
            if given := each.get("properties", {}).get(name):
                given["anyOf"] = [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "null"}]
