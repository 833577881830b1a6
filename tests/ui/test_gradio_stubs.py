"""Unneeded work of gradio at startup is skipped: stubs for editors, and servers that never serve."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import gradio as gr
import pytest
from gradio import blocks, routes

from modules.ui.serve import _no_server_yet

ROOT = Path(__file__).resolve().parents[2]

_ASKED = """
import sys
from pathlib import Path
import modules.ui
wrote = []
def hook(event, arguments):
    if event == "open" and str(arguments[0]).endswith(".pyi"):
        wrote.append(arguments[0])
sys.addaudithook(hook)
import gradio
print(len(wrote), gradio.Textbox(label="x").label, callable(gradio.Textbox.change))
"""


def test_no_stub_is_written_or_read() -> None:
    ran = subprocess.run([sys.executable, "-c", _ASKED], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.stdout.split() == ["0", "x", "True"], ran.stderr


def test_the_server_that_serves_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    real = routes.App.create_app
    made = Mock(side_effect=real)
    monkeypatch.setattr(routes.App, "create_app", made)
    with _no_server_yet():
        with gr.Blocks(analytics_enabled=False) as page:
            gr.Textbox(label="x")
        page.queue()
    assert not made.called
    assert blocks.App is routes.App
    page.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    try:
        assert made.call_count == 1
        assert page.config["components"]
    finally:
        page.close()


def test_a_page_that_fails_leaves_gradio_as_it_was() -> None:
    with pytest.raises(ZeroDivisionError), _no_server_yet():
        raise ZeroDivisionError
    assert blocks.App is routes.App
