"""Converts errors to status codes and OpenAI's error object."""

from __future__ import annotations

import logging
import re
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from errors import (
    Cancelled,
    Conflict,
    InvalidInput,
    LoadCancelled,
    NoModelLoaded,
    NotFound,
    Overloaded,
    PromptTooLong,
    Unavailable,
    UserError,
)
from modules.api.ascii_json import AsciiJSON
from modules.web.errors import BodiesTooLarge, BodyTooSlow, ReaderTooSlow, TooBusy, TooLarge, WrongKey

log = logging.getLogger(__name__)

#: The first class that fits counts: status, OpenAI's type, OpenAI's code.
_TABLE: tuple[tuple[type[UserError], int, str, str | None], ...] = (
    (PromptTooLong, 400, "invalid_request_error", "context_length_exceeded"),
    (WrongKey, 401, "authentication_error", "invalid_api_key"),
    (NotFound, 404, "invalid_request_error", "not_found"),
    (BodyTooSlow, 408, "invalid_request_error", "request_timeout"),
    (ReaderTooSlow, 408, "invalid_request_error", "request_timeout"),
    (TooLarge, 413, "invalid_request_error", "request_too_large"),
    (TooBusy, 429, "rate_limit_error", "too_many_requests"),
    (BodiesTooLarge, 429, "rate_limit_error", "too_many_requests"),
    (InvalidInput, 400, "invalid_request_error", None),
    (Conflict, 409, "invalid_request_error", "conflict"),
    (Cancelled, 409, "invalid_request_error", "cancelled"),
    (LoadCancelled, 409, "invalid_request_error", "cancelled"),
    (Overloaded, 429, "rate_limit_error", "too_many_requests"),
    (NoModelLoaded, 503, "server_error", "no_model_loaded"),
    (Unavailable, 503, "server_error", "unavailable"),
    (UserError, 400, "invalid_request_error", None),
)
#: The beginning of a sentence about a field.
_PLACE = re.compile(
    r"(?:messages|tools|tool_choice|response_format|json_schema|guided_\w+|structured_outputs|logit_bias|best_of|n|input|"
    r"prompt|dimensions)(?:\.\w+)*(?=[ :,])"
)
_INTERNAL = "Internal server error. See the log for details."


def error_body(error: BaseException) -> tuple[int, dict[str, Any]]:
    """The status code and the body for an error."""
    for kind, status, name, code in _TABLE:
        if isinstance(error, kind):
            message = str(error)
            if isinstance(error, NoModelLoaded) and not error.loading:
                message += " API: POST /v1/internal/model/load."
            place = _PLACE.match(message)
            return status, _body(message, name, code, place[0] if place else None)
    return 500, _body(_INTERNAL, "server_error", "internal_error", None)


def _body(message: str, kind: str, code: str | None, param: str | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_answer(error: BaseException) -> Response:
    """The response for an error, wherever it is noticed."""
    status, body = error_body(error)
    response = AsciiJSON(body, status_code=status)
    if isinstance(error, Overloaded) and error.seconds:
        response.headers["retry-after"] = str(error.seconds)
    return response


def install_error_handlers(api: FastAPI) -> None:
    """Handle every error of the application in this form; RequestMiddleware handles unexpected ones."""

    @api.exception_handler(UserError)
    async def known(_: Request, error: UserError) -> Response:
        return error_answer(error)

    @api.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        details = error.errors()
        sentences = [_sentence(detail) for detail in details[:5]]
        param = ".".join(str(part) for part in details[0]["loc"][1:] if isinstance(part, str)) if details else None
        body = _body(" ".join(sentences), "invalid_request_error", "invalid_value", param or None)
        return AsciiJSON(body, status_code=400)

    @api.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        message = ""
        if error.status_code in (404, 405):
            message = f"Unknown route: {request.method} {request.url.path[:200]}.{_hint(request)}"
        body = _body(message or str(error.detail), "invalid_request_error", None, None)
        response = AsciiJSON(body, status_code=error.status_code)
        response.headers.update(error.headers or {})
        return response


def _hint(request: Request) -> str:
    """The route that was probably meant: the most common mistake is a URL without /v1, or with two of them."""
    routes = request.app.openapi()["paths"]
    path = "/" + "/".join(part for part in request.url.path.split("/") if part and part != "v1")
    meant = next((each for each in (path, f"/v1{path}", f"/v1/internal{path}") if each in routes), "")
    if not meant or meant == request.url.path:
        return " All routes are listed at /docs." if request.url.path == "/" else ""
    return f" Did you mean {meant}?"


def _sentence(detail: Any) -> str:
    where = ".".join(str(part) for part in detail["loc"][1:]) or "The body"
    if detail["type"] == "json_invalid" or (detail["type"] == "model_attributes_type" and not detail["loc"][1:]):
        return "Invalid request body: expected a JSON object, sent with Content-Type: application/json."
    if detail["type"] == "model_attributes_type":
        return f"{where} should be an object (got {_short(detail['input'])})."
    if detail["type"] == "missing":
        return f"{where} is required."
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{where} {message[:1].lower()}{message[1:]} (got {_short(detail['input'])})."


def _short(value: Any) -> str:
    """The value that was sent, shortened without writing out all of a large one."""
    match value:
        case list():
            return f"a list of {len(value)}"
        case dict():
            return "an object"
        case str():
            value = value[:60]
    given = ascii(value)
    return given if len(given) <= 60 else given[:57] + "..."
