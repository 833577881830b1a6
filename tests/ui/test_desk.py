"""Default and Notebook in a real browser: every character, generated passages, inspection, sending texts."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from modules.generation.session import ModelSession
from modules.prompts.line_ends import normalize_line_ends
from tests.ui.conftest import Web, until

#: Trailing spaces, tabs, both line ends, a zero-width space and joiner, a byte order mark, letters from everywhere.
ODD = "  two\ttabs\t \r\n\r\nlone\nGrüße, 世界 😀 e\u0301 zero\u200bwidth \u2066x\u2069 \ufeff end  \r\n \t"
GREEDY = "The capital of France is"
_TYPED = """(field, codes) => {
    field.value = codes.map((code) => String.fromCharCode(code)).join('');
    field.dispatchEvent(new Event('input', {bubbles: true}));
}"""


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every prompt that reaches the model while a test runs."""
    seen: list[Any] = []
    start = ModelSession.start

    def spy(self: ModelSession, prompt: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(prompt)
        return start(self, prompt, *args, **kwargs)

    monkeypatch.setattr(ModelSession, "start", spy)
    return seen


def write(page: Page, kind: str, text: str) -> None:
    """Put a text into a field, and wait until it is counted: it is on disk then."""
    field = page.locator(f"#{kind}-field textarea")
    field.fill(text)
    expect(page.locator(f"#{kind}-facts")).to_contain_text(f"{len(normalize_line_ends(text)):,} character")


def value(page: Page, kind: str) -> str:
    return page.locator(f"#{kind}-field textarea").input_value()


def generated(web: Web, button: str) -> None:
    """Press a button and await what it makes: it is stored, and the page shows it."""
    kind = "output" if button.startswith("default") else "notebook"
    before = web.app.drafts.latest(kind)
    web.page.locator(f"#{button}").click()

    def written() -> bool:
        now = web.app.drafts.latest(kind)
        if now is None or (before is not None and now.id == before.id and now.revision < before.revision + 2):
            return False
        return now.revision > 1 and web.app.draft_writer.growing(now.id) is None

    until(written)
    expect(web.page.locator(f"#{button}")).to_be_visible()
    latest = web.app.drafts.latest(kind)
    assert latest is not None
    expect(web.page.locator(f"#{kind}-field textarea")).to_have_value(normalize_line_ends(latest.text))


def view(page: Page, desk: str, name: str) -> None:
    page.locator(f"#{desk}-views").get_by_role("tab", name=name, exact=True).click()


def short(web: Web, tokens: int = 16) -> None:
    web.tab("parameters")
    web.page.locator("#knob-max_new_tokens input[type=number]").fill(str(tokens))
    web.page.locator("#knob-max_new_tokens input[type=number]").press("Tab")


def test_every_character_reaches_the_model_and_comes_back(web: Web, prompts: list[Any]) -> None:
    web.app.prompts.save("odd", ODD)
    short(web)
    web.tab("default")
    page = web.page
    page.locator("#default-more").click()
    page.locator("#default-refresh").click()
    page.locator("#default-files input").click()
    page.get_by_role("option", name="odd", exact=True).click()
    expect(page.locator("#input-field textarea")).to_have_value(normalize_line_ends(ODD))
    expect(page.locator("#input-ends")).to_contain_text("CRLF")
    generated(web, "default-generate")
    until(lambda: bool(prompts))
    assert prompts[-1] == ODD
    latest = web.app.drafts.latest("output")
    assert latest is not None
    assert latest.text.startswith(ODD)
    expect(page.locator("#output-field textarea")).to_have_value(normalize_line_ends(latest.text))
    # a letter typed in the middle leaves all other line ends as they are
    field = page.locator("#input-field textarea")
    field.focus()
    field.evaluate("(field) => field.setSelectionRange(3, 3)")
    page.keyboard.type("X")
    generated(web, "default-generate")
    until(lambda: len(prompts) == 2)
    assert prompts[-1] == ODD[:3] + "X" + ODD[3:]


def test_continue_goes_on_from_the_output(web: Web, prompts: list[Any]) -> None:
    short(web, 8)
    web.tab("default")
    write(web.page, "input", GREEDY)
    generated(web, "default-generate")
    first = value(web.page, "output")
    assert first.startswith(GREEDY + " Paris")
    generated(web, "default-continue")
    assert prompts[-1] == first
    assert value(web.page, "output").startswith(first)


@pytest.mark.parametrize(("desk", "kind", "source"), [("default", "output", "input"), ("notebook",) * 3])
def test_a_model_that_ends_at_once_says_so(web: Web, desk: str, kind: str, source: str) -> None:
    short(web, 8)
    web.page.locator("#knob-custom_stopping_strings textarea").fill('" Paris"')
    web.page.locator("#knob-custom_stopping_strings textarea").press("Tab")
    web.tab(desk)
    write(web.page, source, GREEDY)
    generated(web, f"{desk}-generate")
    assert value(web.page, kind) == GREEDY
    expect(web.page.locator(f"#{kind}-facts .warning")).to_contain_text("ended at once and added no text")
    expect(web.page.locator(".toast-body")).to_contain_text("ended at once")


def test_notebook_writes_takes_back_and_is_there_after_a_reload(web: Web) -> None:
    short(web, 12)
    web.tab("notebook")
    page = web.page
    write(page, "notebook", GREEDY)
    generated(web, "notebook-generate")
    written = value(page, "notebook")
    assert written.startswith(GREEDY + " Paris")
    page.locator("#notebook-undo").click()
    expect(page.locator("#notebook-field textarea")).to_have_value(GREEDY)
    page.locator("#notebook-redo").click()
    expect(page.locator("#notebook-field textarea")).to_have_value(written)
    generated(web, "notebook-regenerate")
    assert value(page, "notebook") == written  # greedy: the same again
    write(page, "notebook", written + " And then")
    page.reload()
    web.ready()
    web.tab("notebook")
    expect(page.locator("#notebook-field textarea")).to_have_value(written + " And then")


def test_stop_keeps_what_is_there(web: Web) -> None:
    short(web, 1500)
    web.page.locator("#knob-ban_eos_token input").check()
    web.tab("notebook")
    page = web.page
    write(page, "notebook", "A very long story:")
    page.locator("#notebook-generate").click()
    page.wait_for_function("document.querySelector('#notebook-field textarea').value.length > 60")
    page.keyboard.press("Escape")
    expect(page.locator("#notebook-generate")).to_be_visible()
    latest = web.app.drafts.latest("notebook")
    assert latest is not None
    expect(page.locator("#notebook-field textarea")).to_have_value(latest.text)
    assert len(latest.text) > 60


def test_the_next_token_at_the_cursor_and_the_samplers(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    page = web.page
    web.tab("parameters")
    page.locator("#knob-do_sample input").check()
    page.locator("#knob-top_p input[type=number]").fill("0.93")
    page.locator("#knob-top_p input[type=number]").press("Tab")
    web.tab("default")
    write(page, "input", GREEDY + " Paris. Nothing more")
    field = page.locator("#input-field textarea")
    field.focus()
    field.evaluate(f"(field) => field.setSelectionRange({len(GREEDY)}, {len(GREEDY)})")
    view(page, "default", "Logits")
    page.locator("#default-kind").get_by_text("Before samplers").click()
    page.locator("#default-look-logits").click()
    odds = page.locator("#default-top-tokens")
    expect(odds.locator("tbody tr").first).to_contain_text("·Paris")
    expect(odds.locator("tbody tr")).to_have_count(25)
    field.focus()
    page.keyboard.press("Control+End")
    page.locator("#default-look-logits").click()
    expect(odds.locator("section")).to_have_count(2)
    expect(odds.locator("section").last).to_contain_text("·Paris")
    looks: list[str] = []
    monkeypatch.setattr(type(web.app.snapshots), "compute", lambda *_, **__: looks.append("look"))
    view(page, "default", "Samplers")
    # the sliders take the knobs' values when the view opens
    expect(page.locator("#default-steer-top_p input[type=number]")).to_have_value("0.93")
    slider = page.locator("#default-steer-top_k input[type=number]")
    page.locator("#default-steer-temperature input[type=number]").fill("1.5")
    page.locator("#default-steer-temperature input[type=number]").press("Tab")
    expect(page.locator("#default-flow")).to_contain_text("temperature 1.5")
    slider.fill("7")
    slider.press("Tab")
    picture = page.locator("#default-flow")
    expect(picture.locator("svg[role=img]:visible")).to_have_count(1)
    expect(picture).to_contain_text("temperature 1.5")
    expect(picture).to_contain_text("top_k 7 removed")
    assert not looks, "a slider ran the model"
    web.tab("parameters")
    expect(page.locator("#knob-top_k input[type=number]")).to_have_value("7")


def test_an_open_view_follows_the_text(web: Web) -> None:
    page = web.page
    web.tab("default")
    write(page, "input", GREEDY)
    view(page, "default", "Logits")
    odds = page.locator("#default-top-tokens")
    expect(odds.locator("tbody tr").first).to_contain_text("·Paris")
    page.locator("#input-field textarea").press_sequentially(" Paris and the capital of Italy is")
    expect(odds.locator("tbody tr").first).to_contain_text("·Rome")
    expect(odds.locator("section")).to_have_count(1)  # compared only when one asks
    page.locator("#input-field textarea").fill("")
    expect(odds).to_contain_text("press Inspect")
    view(page, "default", "Samplers")
    page.locator("#input-field textarea").fill(GREEDY)
    expect(page.locator("#default-flow svg[role=img]:visible")).to_have_count(1)
    expect(page.locator(".toast-body")).to_have_count(0)


def test_tokens_are_shown_with_their_ids(web: Web) -> None:
    page = web.page
    web.tab("default")
    text = "Grüße 世界<|im_end|>"
    write(page, "input", text)
    view(page, "default", "Tokens")
    ids = web.app.generator.session().encode(text)
    tokens = page.locator("#default-token-marks .token")
    expect(tokens).to_have_count(len(ids))
    assert [int(each) for each in tokens.locator("small").all_inner_texts()] == ids
    expect(tokens.last).to_have_class("token special")
    expect(page.locator("#default-token-counts")).to_contain_text("1 control token")


def test_html_is_shown_in_a_frame_that_can_do_nothing(web: Web) -> None:
    page = web.page
    web.tab("notebook")
    write(page, "notebook", "<h2>Title</h2><script>top.document.title='taken'</script><img src='/gone.png'>")
    view(page, "notebook", "HTML")
    frame = page.locator("#notebook-frame iframe")
    assert frame.get_attribute("sandbox") == ""
    inside = page.frame_locator("#notebook-frame iframe").locator("h2")
    expect(inside).to_have_text("Title")
    assert page.title() != "taken"
    look = "each => getComputedStyle(each).fontFamily + getComputedStyle(each).color"
    themed = inside.evaluate(look)
    page.locator("#theme-switch").click()
    page.wait_for_timeout(300)
    dark = inside.evaluate(look)
    assert "system-ui" in themed
    assert themed != dark
    page.locator("#notebook-html-plain input").check()
    expect(page.locator("#notebook-frame iframe.plain")).to_be_visible()
    assert inside.evaluate(look) not in (themed, dark)
    view(page, "notebook", "Markdown")
    write(page, "notebook", "**bold** and `code`")
    view(page, "notebook", "Raw")
    view(page, "notebook", "Markdown")
    expect(page.locator("#notebook-rendered strong")).to_have_text("bold")


def test_texts_are_sent_from_tab_to_tab(web: Web) -> None:
    page = web.page
    web.tab("default")
    write(page, "input", "from default")
    page.locator("#default-more").click()
    page.locator("#default-to-notebook").click()
    expect(page.locator("#notebook-field textarea")).to_have_value("from default")
    write(page, "notebook", "badly written")
    page.locator("#notebook-more").click()
    page.locator("#notebook-to-negative").click()
    expect(page.locator("#knob-negative_prompt textarea")).to_have_value("badly written")
    web.tab("chat")
    web.new_chat()
    web.ask("Tell me the capital of France.")
    page.locator("#more-actions").click()
    page.locator("#chat-to-default").click()
    expect(page.locator("#input-field textarea")).to_have_value(
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nTell me the capital of France.<|im_end|>\n<|im_start|>assistant\n"
        + web.app.chats.latest().path()[-1].text
    )


@pytest.mark.parametrize("text", ["", "word " * 3000, "half \ud83d"], ids=["empty", "long", "surrogate"])
def test_bad_prompts_get_a_sentence_and_the_text_stays(web: Web, text: str) -> None:
    page = web.page
    web.tab("notebook")
    write(page, "notebook", "before")
    field = page.locator("#notebook-field textarea")
    codes = [ord(each) for each in text]  # playwright itself can carry no lone surrogate
    field.evaluate(_TYPED, codes)
    page.locator("#notebook-generate").click()
    toast = page.locator(".toast-body").last
    expect(toast).to_be_visible()
    expect(toast).to_contain_text({"": "empty", "word": "token", "half": "lone surrogate"}[text[:4]])
    expect(page.locator("#notebook-generate")).to_be_visible()
    shown = field.evaluate("(field) => [...Array(field.value.length).keys()].map((at) => field.value.charCodeAt(at))")
    assert shown == codes


def test_a_grammar_is_picked_and_a_broken_one_says_where(web: Web) -> None:
    page = web.page
    web.tab("parameters")
    page.locator("#grammar-files input").click()
    page.get_by_role("option", name="yes_or_no", exact=True).click()
    expect(page.locator("#grammar-state")).to_contain_text("Valid grammar")
    page.locator("#knob-grammar_string textarea").fill('root ::= "a" thing\n')
    expect(page.locator("#grammar-state")).to_contain_text("Line 1")
    page.locator("#schema > button").click()
    page.locator("#schema-text textarea").fill('{"type": "object",\n"properties" {}}')
    page.locator("#schema-make").click()
    expect(page.locator("#schema-state")).to_contain_text("line 2")
    page.locator("#schema-text textarea").fill('{"type": "boolean"}')
    page.locator("#schema-make").click()
    expect(page.locator("#grammar-state")).to_contain_text("Valid grammar")
    page.locator("#knob-grammar_string textarea").fill("")
    expect(page.locator("#grammar-state")).to_have_text("")


def test_banned_strings_are_picked_counted_and_checked(web: Web) -> None:
    page = web.page
    web.tab("parameters")
    field, state = page.locator("#knob-banned_strings textarea"), page.locator("#banned-state")
    page.locator("#banned-files input").click()
    page.get_by_role("option", name="english-cliches", exact=True).click()
    expect(state).to_contain_text("entries")
    field.fill("a\n/(/")
    expect(state).to_contain_text("not a regular expression")
    field.fill("one")
    expect(state).to_contain_text("1 entry")
    page.locator("#phrases > button").click()
    page.locator("#phrases-count").click()
    expect(page.locator("#phrases-state")).to_contain_text("read")
    field.fill("")
    expect(state).to_have_text("")


def test_a_prompt_is_saved_and_deleted(web: Web) -> None:
    page = web.page
    web.tab("notebook")
    write(page, "notebook", "keep me \n\n")
    page.locator("#notebook-more").click()
    page.locator("#notebook-save-as").click()
    name = page.locator("#notebook-name input, #notebook-name textarea")
    expect(name).not_to_have_value("")  # the suggested name has come
    name.fill("kept one")
    page.locator("#notebook-save").click()
    until(lambda: "kept one" in web.app.prompts.names())
    assert web.app.prompts.load("kept one") == "keep me \n\n"
    page.locator("#notebook-delete").click()
    page.locator("#notebook-delete-now").click()
    until(lambda: "kept one" not in web.app.prompts.names())
