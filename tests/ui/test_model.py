"""The Model tab: load, unload, errors; the header always shows the correct state."""

from __future__ import annotations

import random
import threading

import pytest
from playwright.sync_api import expect

from modules.library.hub import HubClient
from tests.library.hub_server import HubServer, Repo
from tests.ui.axe import violations
from tests.ui.conftest import Web

NAME = "SmolLM2-135M-Instruct"


@pytest.fixture
def page(web: Web) -> Web:
    web.page.locator("#chip").click()
    expect(web.page.locator("#model-title")).to_contain_text(NAME)
    return web


def test_unload_and_load(page: Web) -> None:
    expect(page.page.locator("#load-notes")).to_contain_text("context: 2,048 tokens")
    page.page.locator("#unload-model").click()
    expect(page.page.locator("#chip")).to_have_text("No model loaded")
    expect(page.page.locator("#unload-model")).to_be_disabled()
    assert page.app.models.loaded is None
    expect(page.page.locator("#loaded-now")).to_be_hidden()
    expect(page.page.locator("#catalog-list")).not_to_contain_text("loaded")
    page.page.locator("#load-model").click()
    expect(page.page.locator("#chip")).to_contain_text(f"{NAME}.Q4_1 · llama.cpp · 2k")
    expect(page.page.locator("#loaded-now")).to_contain_text(f"Loaded: {NAME}")
    expect(page.page.locator("#catalog-list")).to_contain_text("loaded")
    expect(page.page.locator("#unload-model")).to_be_enabled()
    expect(page.page.locator("#load-model")).to_be_hidden()  # it is Reload now
    expect(page.page.locator("#reload-model")).to_be_visible()


def test_options_take_effect(page: Web) -> None:
    context = page.page.locator("#option-llama-cpp-n_ctx input[type=number]")
    expect(context).to_have_value("2048")
    context.fill("1024")
    context.blur()
    page.page.locator("#reload-model").click()
    expect(page.page.locator("#chip")).to_contain_text("1k")
    assert page.app.models.current().context_length == 1024
    page.app.models.unload()


def test_a_broken_file_is_refused_and_the_server_lives_on(page: Web) -> None:
    broken = page.app.paths.models / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(40))
    page.page.locator("#catalog-refresh").click()
    entry = page.page.locator("#catalog-list button", has_text="broken")
    expect(entry).to_contain_text("cannot be loaded")
    entry.click()
    expect(page.page.locator("#model-title")).to_contain_text("broken")
    expect(page.page.locator("#load-model")).to_be_disabled()
    expect(page.page.locator("#reload-model")).to_be_hidden()  # another one is loaded
    broken.unlink()
    page.page.locator("#catalog-refresh").click()
    expect(page.page.locator("#model-title")).to_contain_text(NAME)


def test_a_load_that_fails_says_why(page: Web) -> None:
    context = page.page.locator("#option-llama-cpp-n_ctx input[type=number]")
    context.fill("200000")
    context.blur()
    page.app.models.unload()
    expect(page.page.locator("#chip")).to_have_text("No model loaded")
    whole = page.app.paths.models / f"{NAME}.Q4_1.gguf"
    aside = whole.rename(whole.with_name("aside.part"))
    try:
        page.page.locator("#load-model").click()
        expect(page.page.locator(".toast-body")).to_contain_text("There is no model named")
    finally:
        aside.rename(whole)
    page.page.locator("#catalog-refresh").click()  # it may have been listed without the file
    expect(page.page.locator("#load-model")).to_be_enabled()


def test_what_it_takes_is_told_before_and_after_loading(web: Web) -> None:
    page = web.page
    web.tab("model")
    forecast = page.locator("#forecast")
    expect(forecast).to_contain_text("It fits: ")
    expect(forecast).to_contain_text("It is loaded and uses")
    page.locator("#option-llama-cpp-n_ctx input[type=number]").fill("8192")
    page.locator("#option-llama-cpp-n_ctx input[type=number]").press("Tab")
    expect(forecast).to_contain_text("context 0.19 GB")


def test_a_model_is_fetched_watched_paused_and_there(web: Web) -> None:
    page, app = web.page, web.app
    data = random.Random(1).randbytes(3_000_000)
    with HubServer({"ann/tiny-GGUF": Repo({"tiny.Q4_K_M.gguf": data, "tiny.Q8_0.gguf": data})}) as hub:
        hub.slow = threading.Event()
        app.downloads._hub = lambda token: HubClient(token, hub.url)
        web.tab("model")
        page.locator("#download > button").click()
        repo = page.locator("#download-repo input, #download-repo textarea").first
        repo.fill("ann/tinny-GGUF")
        page.locator("#download-look").click()
        expect(page.locator(".toast-body")).to_contain_text("Did you mean ann/tiny-GGUF")
        repo.fill("ann/tiny-GGUF")
        page.locator("#download-start").click()
        expect(page.locator(".toast-body").last).to_contain_text("2 GGUF files. Choose one")
        page.locator("#download-look").click()
        expect(page.locator("#download-found")).to_contain_text("2 files")
        page.locator("#download-files input").first.check()
        page.locator("#hub-start").click()
        expect(page.locator("#download-files tr[data-state]").first).to_contain_text("downloading")
        lane = page.locator("#download-list")
        expect(lane).to_contain_text("of 3.0 MB")
        page.reload()
        web.ready()
        web.tab("model")
        expect(lane).to_contain_text("of 3.0 MB")
        lane.get_by_role("button", name="Pause").click()
        expect(lane).to_contain_text("paused")
        expect(page.locator("#catalog-list")).not_to_contain_text("tiny")
        hub.slow.set()
        lane.get_by_role("button", name="Resume").click()
        expect(lane).to_contain_text(f"in {app.paths.models}")
        expect(page.locator("#catalog-list [data-pick='tiny.Q4_K_M.gguf']")).to_contain_text("Q4_K_M")
    (app.paths.models / "tiny.Q4_K_M.gguf").unlink()


def test_the_hub_is_searched_and_a_question_can_be_stopped(web: Web) -> None:
    page, app = web.page, web.app
    data = random.Random(1).randbytes(2000)
    files = {"tiny.Q4_K_M.gguf": data, "tiny.Q8_0.gguf": data, "README.md": b"#"}
    with HubServer({"ann/tiny-GGUF": Repo(files), "bob/tiny-too-GGUF": Repo(files)}) as hub:
        app.downloads._hub = lambda token: HubClient(token, hub.url)
        web.tab("model")
        page.locator("#download > button").click()
        repo, results = (
            page.locator("#download-repo input, #download-repo textarea").first,
            page.locator("#hub-results"),
        )
        page.locator("#download-search").click()  # nothing to search for: models to begin with
        expect(results).to_contain_text("For 8 GB of memory")
        repo.fill("tiny")
        repo.press("Enter")
        expect(page.locator("#download-found")).to_contain_text("2 repositories found")
        expect(results).to_contain_text("1.0 billion parameters")
        expect(results).to_contain_text("1,234 downloads")
        expect(results).to_contain_text("fits")
        results.locator("[data-pick='ann/tiny-GGUF']").click()
        expect(repo).to_have_value("ann/tiny-GGUF")
        expect(page.locator("#download-found")).to_contain_text("3 files")
        boxes = page.locator("#download-files input")
        expect(boxes).to_have_count(3)
        boxes.first.focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Space")
        expect(boxes.nth(1)).to_be_checked()  # Q8_0; README.md is folded
        expect(page.locator("#hub-chosen")).to_contain_text("Chosen: 1 (0.0 MB)")
        expect(page.locator("#download-files tr").nth(2)).to_contain_text("Q8_0")
        assert violations(page) == []
        for width in (360, 1280):  # readable also on a phone: nothing is cut
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate(
                "[...document.querySelectorAll('#hub-view :is(th, td, p)')].filter(each => each.offsetParent)"
                ".every(each => each.getBoundingClientRect().right <= innerWidth)"
            )
        expect(page.locator("#download-files")).to_contain_text("tiny.Q4_K_M")
        repo.fill("bob/tiny-too-GGUF")  # another repository: nothing is chosen in it yet
        expect(page.locator("#download-files")).not_to_contain_text("tiny.Q4_K_M")
        asked = threading.Event()
        app.downloads._hub = lambda token: asked.wait(60) and HubClient(token, hub.url)  # type: ignore[return-value]
        page.locator("#download-look").click()
        expect(page.locator("#download-found")).to_contain_text("Asking the hub")
        expect(page.locator("#download-start")).to_be_disabled()
        page.locator("#download-stop").click()
        expect(page.locator("#download-found")).to_contain_text("Stopped")
        expect(page.locator("#download-start")).to_be_enabled()
        expect(page.locator("#load-bar")).to_be_hidden()  # the hub's sheet is over it
        page.evaluate("document.getElementById('choose-model').click()")  # from the chat, to load a model
        expect(page.locator("#load-bar")).to_be_visible()
        asked.set()
        app.downloads._hub = HubClient
