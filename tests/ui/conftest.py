"""One server with the real demo model and one Chromium for all tests of the page."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright

from modules.app import App
from modules.chat.conversation import Conversation
from modules.chat.store.store import ConversationStore
from modules.generation.session import ModelSession
from modules.ui import launch
from modules.ui.chat.view import SHOWN

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
    # a sandboxed frame in a process of its own is now and then never told to Playwright (CI saw an empty one)
    "--disable-features=IsolateSandboxedIframes",
)  # fmt: skip
#: Greedy, so that the model's answers are the same at every run.
SETTINGS = "preset: Debug-deterministic\nmax_new_tokens: 120\ndark_theme: false\n"
PATIENCE = 30_000

expect.set_options(timeout=PATIENCE)


@dataclass(frozen=True)
class Served:
    app: App
    url: str
    root: Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def new_root(folder: Path, model: Path) -> Path:
    """A user's folder with the shipped files, our settings and the demo model."""
    for name in ("presets", "characters", "instruction-templates", "prompts", "grammars", "banned-strings"):
        shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True)
    (folder / "models").mkdir(parents=True, exist_ok=True)
    (folder / "models" / model.name).symlink_to(model)
    (folder / "settings.yaml").write_text(SETTINGS, encoding="utf-8")
    return folder


def start(root: Path, *more: str) -> Served:
    # one thread: two that wait for each other stand still where the browser takes a core
    argv = ["--listen-port", str(free_port()), "--threads", "1", "--threads-batch", "1", "--n-ctx", "2048", *more]
    app = App.build(root, argv)
    return Served(app, launch(app), root)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, demo_model_path: Path) -> Iterator[Served]:
    served = start(new_root(tmp_path_factory.mktemp("root"), demo_model_path))
    yield served
    served.app.close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        path = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        browser = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM))
        yield browser
        browser.close()


def until(true: Callable[[], bool]) -> None:
    """Wait for something that only the services know."""
    end = time.monotonic() + PATIENCE / 1000
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


@dataclass
class Web:
    """A browser's window on the page, with what tests do again and again.

    The page is loaded when a test first asks for `page`: a load takes seconds, so what it is to show from its
    beginning is made before.
    """

    context: BrowserContext
    window: Page
    app: App
    url: str
    visited: bool = False

    @property
    def page(self) -> Page:
        if not self.visited:
            self.open()
        return self.window

    def visit(self) -> None:
        """Load the page, whatever it shows then."""
        self.visited = True
        self.window.goto(self.url)

    def open(self) -> None:
        self.visit()
        self.ready()

    def ready(self) -> None:
        """Until the page has loaded the conversation: the list says something only then."""
        expect(self.window.locator("#chat-list nav, #chat-list .empty")).to_be_attached()
        self.window.wait_for_function("document.querySelector('#chip').textContent.trim().length > 1")

    def tab(self, name: str) -> None:
        self.page.locator(f"#tab-{name}-button").click()
        expect(self.page.locator(f"#tab-{name}")).to_be_visible()

    def new_chat(self) -> None:
        self.page.locator("#new-chat").click()
        self.opened()
        expect(self.page.locator("#welcome")).to_contain_text("Start a conversation")
        expect(self.page.locator("#column .user-row")).to_have_count(0)  # drawn later than the welcome

    def opened(self) -> None:
        """Until the chat that was asked for is there: the welcome of an empty one before it looks the same."""
        self.page.wait_for_function("Page.opening.size === 0")

    def menu(self, id: str = "") -> None:
        """Open the menu of a chat in the list; "": of the open one, in its head."""
        place = f'#chat-list [data-menu="{id}"]' if id else "#chat-title [data-menu]"
        self.page.locator(place).click()
        expect(self.page.locator("#chat-menu-list")).to_be_visible()

    def ask(self, text: str) -> None:
        """Send a message and await the whole reply."""
        self.send(text)
        self.done()

    def send(self, text: str) -> None:
        """Send a message and wait until it is shown."""
        said = self.page.locator("#column .user-row")
        before = said.count()
        self.page.locator("#message textarea").fill(text)
        self.page.locator("#message textarea").press("Enter")
        expect(said).to_have_count(before + 1)

    def done(self) -> None:
        """Until no reply is being written, and its facts are there."""
        expect(self.page.locator("#reply-facts")).to_contain_text("token")
        expect(self.page.locator("#send")).to_be_visible()

    def kept(self, texts: Sequence[str], title: str = "") -> Conversation:
        """A chat as if one had talked in it: the user says the first text, the model the next, and so on."""
        made = Conversation(self.app.chats.new().id)
        parent = None
        for number, text in enumerate(texts):
            parent = made.add("assistant" if number % 2 else "user", text, parent).id
        made.title = title or made.title
        ConversationStore(self.app.paths).save(made)
        return made

    @contextlib.contextmanager
    def both_say(self, texts: Sequence[str], title: str = "") -> Iterator[None]:
        """Meanwhile a chat is open in which both sides say all of them."""
        made = self.kept([text for text in texts for _ in range(2)], title)
        self.open()
        self.page.locator(f'#chat-list [data-pick="{made.id}"]').click()
        shown = lambda count: self.page.wait_for_function(  # a thought is a row of its own  # noqa: E731
            f"document.querySelectorAll('#column .message-row').length >= {count}"
        )
        shown(min(2 * len(texts), SHOWN + 2))
        if 2 * len(texts) > SHOWN + 2:
            self.page.locator("#older").click()
            shown(2 * len(texts))
        yield
        self.app.chats.delete(made.id)

    def slow_down(self) -> None:
        """Let replies of this test take their time: a busy machine's browser is slower than the model."""
        generator = self.app.generator

        def slowly(name: str = "") -> ModelSession:
            session = type(generator).session(generator, name)
            params = session.params  # what every way of generating takes them from
            vars(session)["params"] = lambda given: params(given).changed(max_tokens_second=3)
            return session

        vars(generator)["session"] = slowly

    @property
    def reply(self) -> Any:
        return self.page.locator("#tail .bot-row .prose").last

    def loaded(self) -> None:
        if self.app.models.loaded is None:
            self.app.models.load(self.app.catalog.names()[0])


@pytest.fixture(scope="session")
def visits(chromium: Browser) -> Iterator[BrowserContext]:
    """One for all tests: what the page is made of is fetched and compiled once. Nothing else stays, see `window`."""
    with contextlib.closing(chromium.new_context()) as context:
        yield context


def window(context: BrowserContext, served: Served, width: int = 1280, height: int = 860) -> Iterator[Web]:
    asked: list[str] = []
    wrong: list[str] = []

    def noted(request: Request) -> None:
        asked.append(request.url)

    def never_sent(request: Request) -> None:
        if request.failure == "csp":
            asked.remove(request.url)

    context.on("request", noted)
    context.on("requestfailed", never_sent)
    page = context.new_page()
    page.set_viewport_size({"width": width, "height": height})
    page.on("pageerror", lambda error: wrong.append(str(error)))
    # gradio has one folder of uploads per process, and another test's server may have changed it since
    os.environ["GRADIO_TEMP_DIR"] = str(served.app.paths.cache / "page")
    web = Web(context, page, served.app, served.url)
    web.loaded()
    yield web
    vars(served.app.generator).pop("session", None)
    context.remove_listener("request", noted)
    context.remove_listener("requestfailed", never_sent)
    page.unroute_all(behavior="ignoreErrors")
    context.new_cdp_session(page).send("Storage.clearDataForOrigin", {"origin": served.url, "storageTypes": "all"})
    for each in context.pages:
        each.close()
    served.app.chats.close()  # a reply goes on without its page: it must not delay the next test
    outside = [url for url in asked if not url.startswith((served.url, "data:", "blob:"))]
    assert not outside, "the page asked another host"
    assert not wrong, "the page's script failed"


@pytest.fixture
def web(visits: BrowserContext, served: Served) -> Iterator[Web]:
    yield from window(visits, served)


@pytest.fixture
def narrow(visits: BrowserContext, served: Served) -> Iterator[Web]:
    yield from window(visits, served, 360, 800)
