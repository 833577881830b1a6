"""Opens the page for --auto-launch: in a window of its own where the default browser has such windows, else in a tab.

Chromium and its relatives show a page as an application with --app. Nothing else here knows browsers.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import webbrowser

#: By a word in the name of the default browser: its programs.
_PROGRAMS = {
    "chromium": ("chromium", "chromium-browser"), "chrome": ("google-chrome", "google-chrome-stable"),
    "edge": ("microsoft-edge", "microsoft-edge-stable"), "brave": ("brave-browser", "brave"),
    "vivaldi": ("vivaldi", "vivaldi-stable"),
}  # fmt: skip


def open_window(url: str) -> bool:
    """Open the page; returns whether it has a window of its own."""
    program = app_program(_default_browser())
    if program:
        try:
            quiet = subprocess.DEVNULL
            process = subprocess.Popen([program, f"--app={url}"], stdout=quiet, stderr=quiet, start_new_session=True)
            threading.Thread(target=process.wait, daemon=True).start()  # its end is noticed: no zombie stays
        except OSError:
            program = ""
    if not program:
        webbrowser.open(url)
    return bool(program)


def app_program(browser: str) -> str:
    """The path of a browser that can show a page as an application; "" for others."""
    for word, programs in _PROGRAMS.items():
        if word in browser.lower():
            return next((path for each in programs if (path := shutil.which(each))), "")
    return ""


def _default_browser() -> str:
    """The default browser's name, where the system tells it."""
    if not sys.platform.startswith("linux"):
        return ""
    asked = ["xdg-settings", "get", "default-web-browser"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, timeout=5, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
