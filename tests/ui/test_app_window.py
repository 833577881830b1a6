"""--auto-launch opens the page in a window of its own where the default browser has them; the page can be installed."""

from __future__ import annotations

import stat
from pathlib import Path

import httpx
import pytest

from modules.ui import app_window
from tests.ui.conftest import Served, until


def test_only_a_browser_that_can_opens_a_window_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = tmp_path / "opened"
    program = tmp_path / "chromium"
    program.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    tabs: list[str] = []
    monkeypatch.setattr(app_window.webbrowser, "open", tabs.append)
    monkeypatch.setattr(app_window, "_default_browser", lambda: "org.chromium.Chromium.desktop")
    assert app_window.open_window("http://127.0.0.1:1")
    until(lambda: opened.is_file() and opened.read_text() == "--app=http://127.0.0.1:1\n")
    assert tabs == []
    monkeypatch.setattr(app_window, "_default_browser", lambda: "firefox.desktop")
    assert not app_window.open_window("http://127.0.0.1:1")
    assert tabs == ["http://127.0.0.1:1"]


def test_the_page_can_be_installed(served: Served) -> None:
    with httpx.Client(base_url=served.url, trust_env=False, timeout=60) as client:
        assert 'rel="manifest"' in client.get("/").text
        told = client.get("/manifest.json").json()
        assert (told["display"], told["name"]) == ("standalone", "Text generation web UI")
        (icon,) = told["icons"]
        assert b"<svg" in client.get(icon["src"]).content
