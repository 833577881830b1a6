"""Handlers that name what they change: other outputs cost neither time nor bytes, and the browser shows the same."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio.state_holder import SessionState
from gradio_client.utils import apply_diff

from modules.ui.parts.events import on
from modules.ui.parts.page_blocks import PageBlocks
from tests.syntax import parsed

OUTPUTS = 24
ROOT = Path(__file__).resolve().parents[3]


def updates_of(function: Callable[..., Any]) -> list[list[Any]]:
    """The messages sent to the browser while a function with many outputs runs."""
    with PageBlocks() as page:
        outputs = [gr.Textbox("") for _ in range(OUTPUTS)]
        on(gr.Button().click, function, None, outputs)
    wired = next(each for each in page.fns.values() if each.name == function.__name__)
    session = SessionState(page)

    async def run() -> list[list[Any]]:
        iterator, sent = None, []
        while True:
            made = await page.process_api(wired, [], state=session, iterator=iterator, session_hash="s", event_id="e")
            sent.append(made["data"])
            iterator = made["iterator"]
            if not made["is_generating"]:
                return sent

    with ThreadPoolExecutor(1) as thread:  # Playwright's event loop may be running in this thread
        return thread.submit(asyncio.run, run()).result()


def seen(sent: list[list[Any]]) -> Iterator[list[Any]]:
    """The values that a browser has after each update of a stream: an omitted value is unchanged."""
    now = sent[0]
    yield now
    for data in sent[1:-1]:
        now = [*(apply_diff(old, new) for old, new in zip(now, data, strict=False)), *now[len(data) :]]
        yield now


def test_a_difference_changes_no_property_of_the_update_before_it() -> None:
    """The browser applies it in place, as soon as it arrives, perhaps before it has shown that update."""
    show, hide = {"visible": True, "value": "a"}, {"visible": False}

    def busy() -> Iterator[dict[int, Any]]:
        yield {0: show, 1: hide, 2: show}
        yield {0: hide, 1: show, 2: {"value": "b"}}
        yield {}
        yield {1: hide, 2: show, 3: show}
        yield {0: {"value": "c"}}

    def busy_page() -> Iterator[Any]:
        for update in busy():
            yield [gr.update(**update[at]) if at in update else gr.skip() for at in range(OUTPUTS)]

    sent = updates_of(busy_page)
    assert all(path == [] for data in sent[1:-1] for difference in data for _, path, _ in difference)
    for now, expected in zip(seen(sent), busy(), strict=False):
        for at, properties in expected.items():
            assert now[at] == {**properties, "__type__": "update"}


def test_handlers_name_what_they_change() -> None:
    """A list of values by position shows the wrong thing as soon as an output is added: no handler returns gr.update in
    a list.
    """

    def is_update(node: ast.expr) -> bool:
        call = node.func if isinstance(node, ast.Call) else None
        return isinstance(call, ast.Attribute) and ast.unparse(call) in ("gr.update", "gr.skip")

    trees = {file: parsed(file) for file in sorted((ROOT / "modules" / "ui").rglob("*.py"))}
    lists = ((file, node) for file in trees for node in ast.walk(trees[file]) if isinstance(node, ast.List | ast.Tuple))
    found = [f"{file.name}:{node.lineno}" for file, node in lists if any(map(is_update, node.elts))]
    assert found == []


def test_what_is_not_named_is_not_built_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[dict[str, Any]] = []

    def change() -> dict[Any, Any]:
        real = gr.Textbox.__init__
        monkeypatch.setattr(gr.Textbox, "__init__", lambda self, **how: [built.append(how), real(self, **how)][-1])
        components = components_of(change)
        return {components[3]: "three", components[7]: gr.update(visible=False)}

    sent = updates_of(change)
    assert sent[0][3] == "three"
    assert sent[0][7] == {"__type__": "update", "visible": False}
    assert all(value == gr.skip() for at, value in enumerate(sent[0]) if at not in (3, 7))
    assert [how["visible"] for how in built] == [False], "none but the one of which a property changes"


def components_of(function: Callable[..., Any]) -> list[gr.Textbox]:
    """The outputs on the page that a function runs on."""
    page = gr.context.LocalContext.blocks.get()
    return next(list(each.outputs) for each in page.fns.values() if each.name == function.__name__)


def test_a_stream_sends_what_grows() -> None:
    """The first and the last update also change other outputs: the browser must show all of them correctly."""

    def grow() -> Iterator[dict[Any, Any]]:
        tail, facts, button, *_, last = components_of(grow)
        yield {tail: "", facts: "Writing", button: gr.update(visible=False), last: "there"}
        for count in range(1, 6):
            yield {tail: "x" * count}
        yield {}
        yield {tail: "x" * 5, facts: "5 tokens", button: gr.update(visible=True)}

    sent = updates_of(grow)
    states = list(seen(sent))
    assert [state[0] for state in states[:6]] == ["", "x", "xx", "xxx", "xxxx", "xxxxx"]
    assert (states[0][1], states[7][1]) == ("Writing", "5 tokens")
    assert [states[at][2].get("visible") for at in (0, 3, 7)] == [False, None, True]
    assert sent[-1] == [gr.skip()] * OUTPUTS, "the last update is not sent twice"
    assert [len(data) for data in sent[2:6]] == [1] * 4
    assert len(sent[0]) == OUTPUTS


@pytest.mark.parametrize("shown", [0, 2])
def test_what_a_stream_has_shown_stays_when_it_ends(shown: int) -> None:
    """Also if it has shown nothing, or fails: gradio would clear the outputs."""

    def fail() -> Iterator[dict[Any, Any]]:
        tail, *_ = components_of(fail)
        for count in range(shown):
            yield {tail: "x" * count}
        raise ValueError

    sent = updates_of(fail)
    assert len(sent) == shown + 1
    assert sent[-1] == [gr.skip()] * OUTPUTS


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (gr.Textbox, "x"),
        (gr.HTML, "<b>x</b>"),
        (gr.Number, 3),
        (gr.Chatbot, [{"role": "assistant", "content": [{"type": "text", "text": "x"}], "metadata": {"title": "y"}}]),
        (gr.State, {"a": 1}),
        (gr.Textbox, gr.update(value="x", visible=False)),
    ],
)
def test_a_value_alone_is_made_as_gradio_makes_it(kind: Any, value: Any) -> None:
    made, kept = [], []
    for blocks in (gr.Blocks, PageBlocks):
        with blocks() as page:
            first, *others = kind(), gr.Textbox(""), gr.Textbox("")
            on(gr.Button().click, lambda: {}, None, [first, *others])
        session = SessionState(page)
        run = page.postprocess_data(list(page.fns.values())[-1], {first: deepcopy(value)}, session)
        with ThreadPoolExecutor(1) as thread:
            made.append(thread.submit(asyncio.run, run).result())
        kept.append(session[first._id] if kind is gr.State else session[first._id].constructor_args.get("visible"))
    plain = [[each.model_dump() if hasattr(each, "model_dump") else each for each in values] for values in made]
    assert plain[0] == plain[1]
    assert kept[0] == kept[1]


def test_only_states_that_start_events_are_compared() -> None:
    with PageBlocks() as page:
        followed, other, text = gr.State(1), gr.State(2), gr.Textbox("")
        on(followed.change, lambda: "changed", None, [text])
        on(gr.Button().click, lambda: (3, 4), None, [followed, other, text])
    wired = list(page.fns.values())[-1]
    session = SessionState(page)
    gradios = gr.Blocks.get_state_ids_to_track(page, wired, session)
    assert page.get_state_ids_to_track(wired, session) == gradios
    assert gradios[0] == [followed._id]


def test_an_output_that_is_none_is_refused() -> None:
    """A component that is not an output of the event is a mistake, reported as gradio reports it."""
    other = gr.Textbox("")

    def change() -> dict[Any, Any]:
        return {other: "lost"}

    with pytest.raises(ValueError, match="not specified as output"):
        updates_of(change)


def test_the_queue_sleeps_while_there_are_no_events() -> None:
    """It looks a hundred times per second, gradio's own a thousand times: each wakes a core that the model uses."""
    with PageBlocks() as page:
        pass
    page.queue()
    looks = 0

    class Counted(type(page._queue)):  # type: ignore[misc]
        def __len__(self) -> int:
            nonlocal looks
            looks += 1
            return 0

    page._queue.__class__ = Counted

    async def run() -> None:
        looking = asyncio.create_task(page._queue.start_processing())
        await asyncio.sleep(0.3)
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)

    with ThreadPoolExecutor(1) as pool:  # other tests of the page leave this thread with a running loop
        pool.submit(lambda: asyncio.run(run())).result()
    assert 1 <= looks <= 40
