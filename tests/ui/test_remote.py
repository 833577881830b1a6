"""A model on another server, from the Model tab's form to a reply in the chat and a server that ends in the middle."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.loaders.remote.scripted_server import ScriptedServer
from tests.ui.conftest import Web


@pytest.fixture
def server(web: Web) -> Iterator[ScriptedServer]:
    with ScriptedServer(reply=["It ", "is ", "Paris."], key="secret", model="far/away") as server:
        yield server
        web.app.models.unload()
        for name in web.app.catalog.names():
            if name.endswith(".remote.yaml"):
                (web.app.paths.models / name).unlink()


def test_from_the_form_to_a_reply(web: Web, server: ScriptedServer) -> None:
    page = web.page
    page.locator("#chip").click()
    page.locator("#remote button").first.click()
    page.locator("#remote-url textarea, #remote-url input").fill(f"{server.url}/v1")
    page.locator("#remote-name textarea, #remote-name input").fill("distant")
    page.locator("#remote-key input").fill("secret")
    page.locator("#remote-add").click()
    expect(page.locator("#model-title")).to_contain_text("distant")
    expect(page.locator("#remote-key input")).to_have_value("")
    page.locator("#load-model").click()
    expect(page.locator("#chip")).to_contain_text("distant · remote · 4k")
    expect(page.locator("#load-notes")).to_contain_text(f"far/away on llama-server b1 at {server.url}")
    web.tab("parameters")
    expect(page.locator("#knob-tfs")).to_contain_text("llama-server has no such setting")
    web.tab("chat")
    web.new_chat()
    web.ask("Where is it?")
    expect(web.reply).to_have_text("It is Paris.")
    assert server.bodies[-1]["prompt"][0] == 1  # token ids, the first mark as its token
    server.cut_after = 2
    web.send("And now?")
    expect(web.reply).to_have_text("It is")
    expect(page.locator("#column, #tail").first).to_be_visible()
    expect(page.get_by_text("was lost after 2 tokens").first).to_be_visible()
