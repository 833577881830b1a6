"""A server with the routes of llama-server, vLLM, SGLang, TabbyAPI or OpenAI, which writes what a test says.

    ScriptedServer("llama-server", reply=["Pa", "ris"])
    ScriptedServer(..., key="k", status=(503, {...}), cut_after=2, hold_after=2, model="m", context=100)
    ScriptedServer(..., router=True)  # llama-server with several models: requests must name one, which loads it
    ScriptedServer(..., raw=b"HTTP/1.1 200 OK...", host="::1", prefix="/llm", tls=context)

Its tokenizer has one token per character, ids by code point; `<|im_start|>` is 1 and `<|im_end|>` 2. The bodies that it
got are in `bodies`; `left` is set when a client leaves in the middle. `raw` is sent for streamed replies as it is, in
one piece or in these, and the connection is closed after it.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

MARKS = {"<|im_start|>": 1, "<|im_end|>": 2}
NAMES = {number: name for name, number in MARKS.items()}
OWNERS = {"llama-server": "llamacpp", "vLLM": "vllm", "SGLang": "sglang", "TabbyAPI": "tabbyAPI", "OpenAI": "somebody"}
N_VOCAB = 70_000


def encode(text: str, special: bool = True) -> list[int]:
    parts = re.split("(" + "|".join(map(re.escape, MARKS)) + ")", text) if special else [text]
    return [token for part in parts for token in ([MARKS[part]] if special and part in MARKS else map(ord, part))]


def decode(ids: Sequence[int]) -> str:
    return "".join(NAMES.get(token) or chr(token) for token in ids)


class ScriptedServer:
    def __init__(
        self,
        kind: str = "llama-server",
        *,
        reply: Sequence[str] = ("Pa", "ris"),
        key: str = "",
        status: tuple[int, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        cut_after: int | None = None,
        hold_after: int | None = None,
        model: str = "folder/tiny",
        context: int = 4096,
        port: int = 0,
        raw: bytes | Iterable[bytes] | None = None,
        host: str = "127.0.0.1",
        prefix: str = "",
        tls: ssl.SSLContext | None = None,
        router: bool = False,
    ) -> None:
        self.kind, self.reply, self.key, self.status = kind, list(reply), key, status
        self.headers = dict(headers or {})
        self.cut_after, self.hold_after = cut_after, hold_after
        self.model, self.context = model, context
        self.raw, self.prefix = raw, prefix
        self.router, self.loaded = router, not router
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.left = threading.Event()
        self.release = threading.Event()
        self._sockets: set[socket.socket] = set()
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                script._sockets.add(self.connection)

            def log_message(self, *_: Any) -> None: ...

            def do_GET(self) -> None:
                script._answer(self, None)

            def do_POST(self) -> None:
                size = int(self.headers.get("content-length") or 0)
                script._answer(self, json.loads(self.rfile.read(size)))

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 128
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

            def handle_error(self, *_: Any) -> None: ...

        self._server = Server((host, port), Handler)
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"http{'s' if tls else ''}://{f'[{host}]' if ':' in host else host}:{self.port}{prefix}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self) -> ScriptedServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """As if its process had ended: every connection breaks."""
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        for each in tuple(self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    # --- answers ---

    def _answer(self, handler: BaseHTTPRequestHandler, body: dict[str, Any] | None) -> None:
        self.paths.append(handler.path)
        path = handler.path.removeprefix(self.prefix) if handler.path.startswith(self.prefix) else "/elsewhere"
        path, _, asked = path.partition("?")
        if self.router and self.model in ((body or {}).get("model"), *parse_qs(asked).get("model", ())):
            self.loaded = True
        elif self.router and path != "/v1/models" and (body is not None or asked):
            self._send(handler, 400, {"error": {"message": "model name is missing from the request"}})
            return
        if self.key and handler.headers.get("authorization") != f"Bearer {self.key}":
            self._send(handler, 401, {"error": {"message": "Invalid API Key"}})
        elif path in ("/completion", "/v1/completions", "/generate"):
            assert body is not None
            self.bodies.append(body)
            if self.status:
                self._send(handler, *self.status, self.headers)
            elif self.raw is not None:
                self._send_raw(handler, [self.raw] if isinstance(self.raw, bytes) else self.raw)
            elif body.get("stream"):
                self._stream(handler, body)
            else:
                self._send(handler, 200, self._whole(path, body))
        elif (answer := self._facts(path, body or {})) is not None:
            self._send(handler, 200, answer)
        else:
            self._send(handler, 404, {"detail": "Not Found"})

    def _send_raw(self, handler: BaseHTTPRequestHandler, pieces: Iterable[bytes]) -> None:
        handler.close_connection = True
        try:
            for each in pieces:
                handler.wfile.write(each)
                handler.wfile.flush()
        except OSError:
            self.left.set()

    def _facts(self, path: str, body: Mapping[str, Any]) -> Any:
        known: dict[str, Any] = {"/v1/models": {"data": [self._entry()]}}
        if self.kind == "llama-server":
            settings = {"n_ctx": self.context if self.loaded else 0}
            marks = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "chat_template": "<|im_start|>"}
            known["/props"] = {
                "default_generation_settings": settings, "total_slots": 2, "build_info": "b1", **marks,
            }  # fmt: skip
            if path == "/tokenize":
                ids = encode(body["content"], body["parse_special"])
                pieces = [{"id": token, "piece": decode([token])} for token in ids]
                return {"tokens": pieces if body["with_pieces"] else ids}
            if path == "/detokenize":
                return {"content": decode(body["tokens"])}
        elif self.kind in ("vLLM", "SGLang"):
            known |= {"/version": {"version": "0.11"}, "/get_server_info": {"version": "0.5"}}
            if path == "/tokenize":
                ids = encode(body["prompt"])
                strings = {"token_strs": [decode([token]).replace(" ", "\u2581") for token in ids]}
                return {"tokens": ids, "count": 0, **(strings if body.get("return_token_strs") else {})}
            if path == "/detokenize":
                return {"prompt" if self.kind == "vLLM" else "text": decode(body["tokens"])}
        elif self.kind == "TabbyAPI":
            known["/v1/model"] = {"id": self.model, "parameters": {"max_seq_len": self.context}}
            if path == "/v1/token/encode":
                return {"tokens": encode(body["text"], body["encode_special_tokens"]), "length": 0}
            if path == "/v1/token/decode":
                return {"text": decode(body["tokens"])}
        return known.get(path)

    def _entry(self) -> dict[str, Any]:
        entry: dict[str, Any] = {"id": self.model, "owned_by": OWNERS[self.kind]}
        if self.kind == "llama-server" and self.loaded:
            entry["meta"] = {"n_ctx": self.context, "n_vocab": N_VOCAB}
        elif self.kind in ("vLLM", "SGLang"):
            entry["max_model_len"] = self.context
        return entry

    def _whole(self, path: str, body: Mapping[str, Any]) -> Any:
        if path == "/generate":
            ids = body["input_ids"]
            scores = [[None, ids[0], None], *([-1.5, each, None] for each in ids[1:])]
            tops = [[[-0.1, 80, None], [-2.5, 81, None]]]
            return {"meta_info": {"input_token_logprobs": scores, "output_top_logprobs": tops}}
        if self.kind == "llama-server":
            top = [{"id": 80, "logprob": -0.1, "bytes": [80]}, {"id": 81, "logprob": None, "bytes": [81]}]
            return {"completion_probabilities": [{"top_logprobs": top}]}
        ids = body["prompt"]
        choice: dict[str, Any] = {"text": "P", "finish_reason": "length"}
        if "prompt_logprobs" in body:
            choice["prompt_logprobs"] = [None, *({str(each): {"logprob": -1.5}} for each in ids[1:])]
        choice["logprobs"] = {"tokens": ["token_id:80"], "token_logprobs": [-0.1],
                              "top_logprobs": [{"token_id:80": -0.1, "token_id:81": -2.5}]}  # fmt: skip
        return {"choices": [choice]}

    def _stream(self, handler: BaseHTTPRequestHandler, body: Mapping[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        for index, text in enumerate(self.reply):
            if index == self.cut_after:
                handler.connection.shutdown(socket.SHUT_RDWR)
                handler.close_connection = True
                return
            if index == self.hold_after and not self._hold(handler):
                return
            self._event(handler, self._part(text, body))
        for each in self._end(body):
            self._event(handler, each)
        self._chunk(handler, b"")

    def _hold(self, handler: BaseHTTPRequestHandler) -> bool:
        """Wait until released; False if the client leaves meanwhile."""
        handler.connection.settimeout(0.01)
        while not self.release.is_set():
            try:
                if not handler.connection.recv(1, socket.MSG_PEEK):
                    self.left.set()
                    handler.close_connection = True
                    return False
            except TimeoutError:
                time.sleep(0.005)
            except OSError:
                self.left.set()
                handler.close_connection = True
                return False
        handler.connection.settimeout(None)
        return True

    def _part(self, text: str, body: Mapping[str, Any]) -> Any:
        if self.kind == "llama-server":
            part: dict[str, Any] = {"content": text, "tokens": [0x10000 + len(text)], "stop": False}
            if "n_probs" in body:
                other = {"id": 90, "logprob": -3.0, "bytes": [90]}
                part["completion_probabilities"] = [
                    {"id": 88, "bytes": list(text.encode()), "logprob": -0.5, "top_logprobs": [other]}
                ]
            return part
        choice: dict[str, Any] = {"index": 0, "text": text, "finish_reason": None}
        if self.kind == "vLLM":
            choice["token_ids"] = [0x10000 + len(text)]
        return {"choices": [choice], "model": self.model}

    def _end(self, body: Mapping[str, Any]) -> list[Any]:
        if self.kind == "llama-server":
            timings = {"cache_n": 3}
            return [{"content": "", "tokens": [], "stop": True, "stop_type": "eos", "model": self.model,
                     "tokens_evaluated": len(body["prompt"]), "timings": timings}]  # fmt: skip
        usage = {
            "prompt_tokens": 7,
            "completion_tokens": len(self.reply),
            "prompt_tokens_details": {"cached_tokens": 3},
        }
        last = {"choices": [{"index": 0, "text": "", "finish_reason": "stop"}], "model": self.model}
        return [last, {"choices": [], "usage": usage}, "[DONE]"]

    def _event(self, handler: BaseHTTPRequestHandler, value: Any) -> None:
        text = value if isinstance(value, str) else json.dumps(value)
        self._chunk(handler, f"data: {text}\n\n".encode())

    def _chunk(self, handler: BaseHTTPRequestHandler, data: bytes) -> None:
        handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        handler.wfile.flush()

    def _send(
        self, handler: BaseHTTPRequestHandler, status: int, value: Any, headers: Mapping[str, str] | None = None
    ) -> None:
        data = json.dumps(value).encode()
        handler.send_response(status)
        for name, text in (headers or {}).items():
            handler.send_header(name, text)
        handler.send_header("content-length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)
