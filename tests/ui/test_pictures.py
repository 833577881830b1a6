"""Makes the pictures of the documents, with SCREENSHOTS=1: what they show is what the page shows."""

from __future__ import annotations

import os

import pytest
from playwright.sync_api import expect

from tests.ui.conftest import ROOT, Web
from tests.ui.test_desk import view, write

pytestmark = pytest.mark.skipif(not os.environ.get("SCREENSHOTS"), reason="makes the pictures of the documents")

PICTURES = ROOT / "docs" / "pictures"
QUESTIONS = (
    "Write a haiku about the sea.",
    "Tell me the capital of France.",
    "Give me three tips for a good night's sleep.",
)


@pytest.fixture
def wide(web: Web) -> Web:
    web.page.set_viewport_size({"width": 1440, "height": 900})
    return web


def talk(web: Web) -> None:
    for info in web.app.chats.list("instruct"):
        web.app.chats.delete(info.id)
    web.open()
    for question in QUESTIONS:
        web.new_chat()
        web.ask(question)
    web.ask("Give me a short Python function that adds two numbers, in a code block.")


def paint(web: Web, theme: str) -> None:
    web.page.evaluate(f"localStorage.setItem('theme', '{theme}')")
    web.page.reload()
    web.ready()
    web.page.wait_for_timeout(1500)


def test_chat(wide: Web) -> None:
    talk(wide)
    wide.page.mouse.move(0, 0)
    wide.page.screenshot(path=ROOT / "docs" / "screenshot.png")
    paint(wide, "dark")
    wide.page.screenshot(path=PICTURES / "chat-dark.png")


def test_phone(narrow: Web) -> None:
    narrow.ask(QUESTIONS[2])
    narrow.page.screenshot(path=PICTURES / "phone.png")


def test_samplers(wide: Web) -> None:
    page = wide.page
    wide.tab("parameters")
    page.locator("#knob-do_sample input").check()
    wide.tab("default")
    write(page, "input", "Once upon a time, there was a")
    view(page, "default", "Samplers")
    for knob, text in (("top_k", "40"), ("top_p", "0.9"), ("temperature", "1.3")):
        field = page.locator(f"#default-steer-{knob} input[type=number]")
        field.fill(text)
        field.press("Tab")
    page.locator("#default-look-samplers").click()
    expect(page.locator("#default-flow svg[role=img]:visible")).to_have_count(1)
    page.wait_for_timeout(1000)
    page.screenshot(path=PICTURES / "samplers.png")


@pytest.mark.parametrize("tab", ["model", "parameters", "training"])
def test_tab(wide: Web, tab: str) -> None:
    wide.tab(tab)
    wide.page.wait_for_timeout(2500)
    # without the list of models, which names a test's folder
    column = {"x": 360, "y": 48, "width": 1080, "height": 852}
    wide.page.screenshot(path=PICTURES / f"{tab}.png", clip=column if tab == "model" else None)
