"""The Session tab and extensions in the page, with a separate program that is restarted."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.ui.conftest import ROOT, free_port, new_root, until

BAD = '''"""Fails wherever it can."""


def ui():
    raise RuntimeError("no page today")


def output_modifier(string, state, is_chat=False):
    raise RuntimeError("no words today")
'''

TAB = '''"""Has a tab of its own."""

import gradio as gr

params = {"display_name": "Own tab", "is_tab": True}


def custom_css():
    return "#own-words { letter-spacing: 3px; }"


def custom_js():
    return "document.documentElement.dataset.own = 'here';"


def ui():
    gr.HTML("<p id='own-words'>Words of its own</p>")
'''


SENDER = '''"""Sends a message and changes what is shown, as scripts for the original program do it."""

import gradio as gr

from modules import chat, shared, ui_chat
from modules.ui import gather_interface_values
from modules.utils import gradio

waiting = []


def chat_input_modifier(text, visible_text, state):
    return waiting.pop() if waiting else (text, visible_text)


def louder(history):
    shown = [[user, f"<b>LOUD</b> {bot}"] for user, bot in history["visible"]]
    return {"internal": history["internal"], "visible": shown}


def ui():
    ask = gr.Button("Ask by script", elem_id="script-asks")
    ask.click(lambda: waiting.append(("Tell me the capital of France.", "<i>A picture</i>")), None, None).then(
        gather_interface_values, gradio(shared.input_elements), gradio("interface_state")
    ).then(chat.generate_chat_reply_wrapper, gradio(ui_chat.inputs), gradio("display", "history"))
    loud = gr.Button("Show it louder", elem_id="script-shows")
    loud.click(louder, gradio("history"), gradio("history")).then(
        chat.save_history, gradio("history", "unique_id", "character_menu", "mode"), None
    ).then(chat.redraw_html, gradio(ui_chat.reload_arr), gradio("display"))
'''


@dataclass
class Program:
    """server.py as a user starts it."""

    root: Path
    url: str


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, demo_model_path: Path) -> Iterator[Program]:
    root = new_root(tmp_path_factory.mktemp("session"), demo_model_path)
    for name in ("errors", "installer", "loaders", "modules"):
        (root / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "server.py", root)
    for name, script in (("bad", BAD), ("own_tab", TAB), ("sender", SENDER)):
        (root / "extensions" / name).mkdir(parents=True)
        (root / "extensions" / name / "script.py").write_text(script, "utf-8")
    (root / "CMD_FLAGS.txt").write_text("# mine\n--n-ctx 2048\n", "utf-8")
    port = free_port()
    names = ["bad", "own_tab", "gallery", "perplexity_colors", "sender"]
    command = [
        sys.executable, str(root / "server.py"), "--listen-port", str(port), "--threads", "1", "--extensions", *names
    ]  # fmt: skip
    with (root / "log.txt").open("w") as log, subprocess.Popen(command, cwd=root, stdout=log, stderr=log) as server:
        url = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            assert server.poll() is None, (root / "log.txt").read_text()
            try:
                urllib.request.urlopen(url, timeout=5).close()
            except (urllib.error.URLError, OSError):
                return False
            return True

        try:
            until(answers)
            yield Program(root, url)
        finally:
            server.terminate()  # also where it never answered: what follows would wait for it for ever


@pytest.fixture
def page(chromium: Browser, program: Program) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    ready(page, program.url)
    yield page
    context.close()


def ready(page: Page, url: str) -> None:
    page.goto(url)
    expect(page.locator("#chat-list nav, #chat-list .empty")).to_be_attached()
    expect(page.locator("#chip")).to_contain_text("llama.cpp")


def tab(page: Page, name: str) -> None:
    page.locator(f"#tab-{name}-button").click()
    expect(page.locator(f"#tab-{name}")).to_be_visible()


def test_extensions_stand_in_the_page_and_one_that_fails_says_so(page: Page) -> None:
    page.locator("#extensions-switch").click()
    drawer = page.locator("#extensions")
    expect(drawer).to_be_visible()
    expect(drawer.locator("#extension-bad")).to_contain_text("bad failed in ui (script.py, line 5)")
    expect(drawer.locator("#extension-perplexity_colors")).to_contain_text("Color replies")
    page.locator("#extensions-close").click()
    expect(drawer).to_be_hidden()
    tab(page, "own_tab")
    words = page.locator("#own-words")
    expect(words).to_have_text("Words of its own")
    assert words.evaluate("each => getComputedStyle(each).letterSpacing") == "3px"
    assert page.evaluate("document.documentElement.dataset.own") == "here"
    tab(page, "parameters")
    expect(page.locator("#extensions-switch")).to_be_hidden()


def test_a_reply_is_coloured_though_another_extension_fails(page: Page) -> None:
    page.locator("#new-chat").click()
    page.locator("#message textarea").fill("Tell me the capital of France.")
    page.locator("#message textarea").press("Enter")
    reply = page.locator("#tail .bot-row .prose").last
    expect(reply.locator("span[style*='hsl']").first).to_be_visible()
    expect(reply).to_contain_text("Paris")
    page.locator("#new-chat").click()
    page.locator("#chat-list nav button").first.click()
    expect(page.locator("#column .bot-row span[style*='hsl']").first).to_be_visible()


def test_a_script_of_the_original_sends_a_message_and_changes_what_is_shown(page: Page) -> None:
    """What it does reaches the chat that is open, and the page shows it."""
    page.locator("#new-chat").click()
    page.wait_for_function("Page.opening.size === 0")
    page.locator("#extensions-switch").click()
    page.locator("#script-asks").click()
    expect(page.locator("#tail .user-row i")).to_have_text("A picture")
    reply = page.locator("#tail .bot-row .prose").last
    expect(reply).to_contain_text("Paris")
    expect(page.locator("#reply-facts")).to_contain_text("token")
    page.locator("#script-shows").click()
    expect(reply.locator("b").first).to_have_text("LOUD")
    expect(reply).to_contain_text("Paris")


def test_the_gallery_opens_a_chat_with_a_character(page: Page) -> None:
    page.locator("#extensions-switch").click()
    page.locator("#gallery-extension button").first.click()
    page.locator("#gallery-wall button", has_text="Assistant").first.click()
    expect(page.locator("#mode input[value='chat']")).to_be_checked()
    expect(page.locator("#who")).to_contain_text("AI")


def test_flags_are_saved_or_refused_by_line(page: Page, program: Program) -> None:
    tab(page, "session")
    page.locator("#flags-file button").first.click()
    text = page.locator("#flags-text textarea")
    expect(text).to_have_value("# mine\n--n-ctx 2048\n")
    text.fill("# mine\n--n-ctx 2048\n--listn")
    page.locator("#flags-save").click()
    expect(page.locator(".toast-wrap")).to_contain_text("Unknown flag --listn on line 3 of CMD_FLAGS.txt")
    assert (program.root / "CMD_FLAGS.txt").read_text() == "# mine\n--n-ctx 2048\n"


def test_the_settings_are_shown_and_then_saved(page: Page, program: Program) -> None:
    page.locator("#mode input[value='chat']").evaluate("each => each.click()")
    tab(page, "session")
    page.locator("#language").locator("input").click()
    page.get_by_role("option", name="Deutsch").click()
    page.locator("#settings-save").click()
    expect(page.locator("#settings-asking")).to_contain_text("language")
    page.locator("#settings-save-now").click()
    expect(page.locator(".toast-wrap")).to_contain_text("settings.yaml saved")
    saved = (program.root / "settings.yaml").read_text()
    assert "language: de" in saved
    assert "mode: chat" in saved
    assert "preset: Debug-deterministic" in saved


def test_apply_and_restart_and_the_page_comes_back(page: Page, program: Program) -> None:
    tab(page, "session")
    page.locator("#theme").get_by_label("Dark").check()  # counts without being saved first
    page.locator("#language").locator("input").click()
    page.get_by_role("option", name="Русский").click()
    page.locator("#switches label", has_text="--verbose").click()
    page.locator("#extension-choices label", has_text=re.compile("^ *bad")).click()
    page.locator("#keep-flags input").check()
    page.locator("#apply-restart").click()
    expect(page.locator("#restarting")).to_be_visible()
    expect(page.locator("#restarting")).to_be_hidden(timeout=60_000)
    expect(page.locator("#chip")).to_contain_text("llama.cpp")
    expect(page.locator("#tab-session-button")).to_contain_text("Сеанс")
    expect(page.locator("html")).to_have_attribute("lang", "ru")
    assert page.evaluate("document.body.classList.contains('dark')")
    expect(page.locator("#chip")).to_contain_text(re.compile(r"\d,\d ГБ"))  # said by an event of the page
    assert "mode: chat" in (program.root / "settings.yaml").read_text()  # saved before
    tab(page, "session")
    expect(page.locator("#session .facts").last).to_contain_text("--verbose")
    expect(page.locator("#extension-choices label", has_text=re.compile("^ *bad")).locator("input")).not_to_be_checked()
    kept = (program.root / "CMD_FLAGS.txt").read_text()
    assert kept.startswith("# mine\n--n-ctx 2048\n")
    assert "--verbose" in kept
    assert "--extensions=own_tab,gallery,perplexity_colors,sender" in kept
