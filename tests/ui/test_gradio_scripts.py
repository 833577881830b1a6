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
from tests.ui.conftest import Served


@pytest.mark.parametrize("correction", CORRECTIONS, ids=lambda each: each.script)
def test_the_pinned_version_contains_what_is_corrected(correction: Correction) -> None:
    texts = [file.read_text(encoding="utf-8") for file in ASSETS.glob(f"{correction.script}*.js")]
    assert sum(text.count(correction.old) for text in texts) == 1


def test_corrected_scripts_are_served_and_kept_by_the_browser(served: Served) -> None:
    scripts = dict(corrected_scripts())
    assert {name.split("-")[0] for name in scripts} == {"statustracker", "core", "Blocks"}
    for name, text in scripts.items():
        answer = httpx.get(f"{served.url}/assets/{name}")
        assert answer.text == text
        assert answer.headers["content-encoding"] == "gzip"
        assert "javascript" in answer.headers["content-type"]
        plain = httpx.get(f"{served.url}/assets/{name}", headers={"accept-encoding": "identity"})
        assert plain.text == text
        again = httpx.get(f"{served.url}/assets/{name}", headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.text) == (304, "")


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
