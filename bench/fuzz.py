"""10,000 invalid request bodies: the API must answer each, and never with a 5xx.

Fields are those of our own OpenAPI description; values are of every type, in and out of bounds. Some bodies are cut
off, some are not JSON. The model is the real one; replies have a few tokens.
"""

from __future__ import annotations

import collections
import http.client
import json
import os
import random
import threading
from typing import Any

from bench.api import JSON, get, our_server
from bench.figure import Figure, Side, write

BODIES = int(os.environ.get("FUZZ_BODIES", "10000"))
ROUTES = {
    "/v1/completions": "CompletionRequest", "/v1/chat/completions": "ChatRequest", "/v1/internal/logits": "",
    "/v1/internal/encode": "", "/v1/internal/decode": "", "/v1/internal/token-count": "", "/v1/embeddings": "",
    "/v1/moderations": "", "/v1/internal/chat-prompt": "ChatRequest",
}  # fmt: skip
WORDS = (
    "", "a", "Tell me the capital of France.", "\n", "\0", "\ud800", "é" * 50, "<|im_start|>", "../../etc/passwd",
    "root ::= [", "{{", "null", "NaN", "1e999", "x" * 5000, "auto", "json_object", "instruct", "chat", "none", "1,2,3",
)  # fmt: skip
NUMBERS = (0, 1, -1, 2, 3, 0.5, -0.5, 1e9, -1e9, 1e308, 2**31, 2**63, 2**70, 1e-30)
ROLES = ("user", "assistant", "system", "tool", "developer", "", "pope")


def value(chance: random.Random, depth: int = 0) -> Any:
    kind = chance.randrange(9 if depth < 3 else 5)
    if kind == 0:
        return chance.choice((None, True, False))
    if kind in (1, 2):
        return chance.choice(NUMBERS)
    if kind in (3, 4):
        return chance.choice(WORDS)
    if kind in (5, 6):
        return [value(chance, depth + 1) for _ in range(chance.randrange(4))]
    return {chance.choice(WORDS): value(chance, depth + 1) for _ in range(chance.randrange(4))}


def message(chance: random.Random) -> Any:
    if chance.random() < 0.1:
        return value(chance)
    content: Any = chance.choice(WORDS)
    if chance.random() < 0.3:
        content = [{"type": chance.choice(("text", "image_url", "x")), "text": content}, value(chance, 2)]
    return {
        "role": chance.choice(ROLES),
        "content": content,
        **({"tool_calls": value(chance)} if not chance.randrange(9) else {}),
    }


def body(chance: random.Random, fields: list[str]) -> bytes:
    if chance.random() < 0.05:
        return bytes(chance.randrange(256) for _ in range(chance.randrange(60)))
    made: dict[str, Any] = {
        name: value(chance) for name in chance.sample(fields, min(len(fields), chance.randrange(6)))
    }
    if chance.random() < 0.8:
        made["messages"] = [message(chance) for _ in range(chance.randrange(1, 4))]
        made["prompt"] = made["text"] = made["input"] = chance.choice(WORDS)
    if chance.random() < 0.97:
        made |= {
            "max_tokens": chance.choice((1, 2, 3)),
            "max_new_tokens": 2,
            "n": 1,
            "best_of": 1,
            "auto_max_new_tokens": False,
        }
    data = json.dumps(made).encode()
    return data[: chance.randrange(len(data))] if chance.random() < 0.05 else data


def main() -> None:
    counts: collections.Counter[str] = collections.Counter()
    broken: list[str] = []
    lock = threading.Lock()
    with our_server(1, n_ctx=1024) as (host, _):
        schemas = get(host, "/openapi.json")["components"]["schemas"]  # type: ignore[call-overload]
        fields = {route: list(schemas[name]["properties"]) if name else [] for route, name in ROUTES.items()}
        everything = sorted({field for each in fields.values() for field in each})

        def client(number: int) -> None:
            chance = random.Random(number)
            connection = http.client.HTTPConnection(host, timeout=120)
            for _ in range(BODIES // 8):
                route = chance.choice(list(ROUTES))
                data = body(chance, fields[route] or everything)
                try:
                    connection.request("POST", route, data, JSON)
                    answer = connection.getresponse()
                    said = answer.read()
                    status = str(answer.status)
                except (OSError, http.client.HTTPException) as error:
                    connection.close()
                    status, said = type(error).__name__, b""
                with lock:
                    counts[status] += 1
                    if not status.startswith(("2", "4")):
                        broken.append(f"{route} {status} {data[:300]!r} {said[:200]!r}")

        threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        alive = get(host, "/v1/models")["data"]
    for line in broken[:20]:
        print(line)
    answered = Side("answered with 2xx or 4xx", [sum(counts.values()) - len(broken)])
    figure = Figure("fuzz", "fuzzed bodies", "", answered, Side("sent", [sum(counts.values())]), 1.0)
    seen = ", ".join(f"{count:,} times {status}" for status, count in sorted(counts.items()))
    write("fuzz", [figure], f"{seen}. The model was {'still' if alive else 'no longer'} loaded at the end.")


if __name__ == "__main__":
    main()
