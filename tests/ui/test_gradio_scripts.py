"""The corrections of Gradio's browser scripts, and what Gradio's queue remembers of each event."""

from __future__ import annotations

import inspect
import os
from types import SimpleNamespace
from typing import cast

import httpx
import pytest
from gradio.queueing import Queue

from modules.ui.gradio_scripts import ASSETS, CORRECTIONS, Correction, corrected_scripts
from tests.ui.conftest import Served, Web


@pytest.mark.parametrize("correction", CORRECTIONS, ids=lambda each: each.script)
def test_the_pinned_version_contains_what_is_corrected(correction: Correction) -> None:
    texts = [file.read_text(encoding="utf-8") for file in ASSETS.glob(f"{correction.script}*.js")]
    assert sum(text.count(correction.old) for text in texts) == 1


def test_corrected_scripts_are_served_and_kept_by_the_browser(served: Served) -> None:
    scripts = dict(corrected_scripts())
    assert {name.split("-")[0] for name in scripts} == {"statustracker", "core", "Blocks"}
    for name, text in scripts.items():
        for how in ("br", "gzip"):
            answer = httpx.get(f"{served.url}/assets/{name}", headers={"accept-encoding": how})
            assert answer.text == text
            assert answer.headers["content-encoding"] == how
            assert "javascript" in answer.headers["content-type"]
        plain = httpx.get(f"{served.url}/assets/{name}", headers={"accept-encoding": "identity"})
        assert plain.text == text
        again = httpx.get(f"{served.url}/assets/{name}", headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.text) == (304, "")


def test_every_script_and_style_sheet_is_served_as_it_is_and_asked_for_once(served: Served) -> None:
    corrected = dict(corrected_scripts())
    for kind in (".js", ".css"):
        file = next(each for each in ASSETS.iterdir() if each.suffix == kind and each.name not in corrected)
        answer = httpx.get(f"{served.url}/assets/{file.name}", headers={"accept-encoding": "gzip, br"})
        assert (answer.content, answer.headers["content-encoding"]) == (file.read_bytes(), "br")
        assert "immutable" in answer.headers["cache-control"]
    assert httpx.get(f"{served.url}/assets/none.js").status_code == 404


def test_what_is_folded_is_not_loaded_at_first(web: Web) -> None:
    """The whole page has 1.5 MB of scripts, compressed to a third."""
    session, sizes = web.context.new_cdp_session(web.window), list[float]()
    session.send("Network.enable")
    session.send("Network.setCacheDisabled", {"cacheDisabled": True})
    session.on("Network.loadingFinished", lambda told: sizes.append(told["encodedDataLength"]))
    web.open()
    assert 0.2e6 < sum(sizes) < 0.48e6


@pytest.mark.usefixtures("served")
def test_an_event_costs_the_same_after_many_others() -> None:
    told = {name: int(os.environ[name]) for name in ("GRADIO_ANALYTICS_CACHE_FREQUENCY", "GRADIO_ANALYTICS_MAX_EVENTS")}
    assert all(name in inspect.getsource(Queue.__init__) for name in told)
    queue = SimpleNamespace(
        events_recorded=20,
        event_count_at_last_cache=0,
        ANAYLTICS_CACHE_FREQUENCY=told["GRADIO_ANALYTICS_CACHE_FREQUENCY"],
        cached_event_analytics_summary={"functions": {}},
    )
    events = [{"function": "send", "status": "success", "process_time": 1.0, "time": 0.0}] * 20
    summary = Queue.compute_analytics_summary(cast(Queue, queue), events)
    assert summary == {"functions": {}}, "statistics over all events, at each event"
    assert told["GRADIO_ANALYTICS_MAX_EVENTS"] == 1
