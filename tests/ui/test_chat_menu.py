"""The menu of a chat, folders, and what a chat keeps of its own: by mouse, keyboard and finger."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import expect

from modules.chat.conversation import Conversation
from modules.chat.own_settings import OwnSettings
from modules.chat.store.store import ConversationStore
from tests.ui.axe import violations
from tests.ui.conftest import ROOT, Web, until


@contextmanager
def chats(web: Web, **folders: str) -> Iterator[dict[str, str]]:
    """Meanwhile there are chats with these titles in these folders; the first one is open. Yields their ids."""
    store, ids = ConversationStore(web.app.paths), {}
    for title, folder in folders.items():
        made = Conversation(web.app.chats.new().id, title=title)
        made.add("assistant", f"About {title}.", made.add("user", f"Tell me about {title}.").id)
        made.folder = folder
        store.save(made)
        ids[title] = made.id
    try:
        web.open()
        if web.page.locator("#chats-toggle").is_visible() and not web.page.locator("#chat-list").is_visible():
            web.page.locator("#chats-toggle").click()
        web.page.locator(f'#chat-list [data-pick="{next(iter(ids.values()))}"]').click()
        expect(web.page.locator("#chat-title")).to_contain_text(next(iter(ids)))
        yield ids
    finally:
        for id in ids.values():
            if store.revision(id) is not None:
                web.app.chats.delete(id)


def test_a_chat_that_is_not_open_is_renamed_pinned_moved_saved_and_deleted(web: Web) -> None:
    page = web.window
    with chats(web, Apples="", Pears="") as ids:
        entry = page.locator("#chat-list .entry", has=page.locator(f'[data-pick="{ids["Pears"]}"]'))
        web.menu(ids["Pears"])
        page.locator("#chat-rename").click()
        field = page.locator("#chat-name input, #chat-name textarea")
        expect(field).to_have_value("Pears")
        field.fill("Quinces")
        field.press("Enter")
        expect(entry).to_contain_text("Quinces")
        expect(page.locator("#chat-menu")).to_be_hidden()
        web.menu(ids["Pears"])
        page.locator("#chat-pin").click()
        expect(page.locator("#chat-list h3").first).to_have_text("Pinned")
        web.menu(ids["Pears"])
        expect(page.locator("#chat-pin")).to_be_hidden()
        page.locator("#chat-unpin").click()
        expect(page.locator("#chat-list h3").first).to_have_text("Today")
        web.menu(ids["Pears"])
        page.locator("#chat-move").click()
        page.locator("#chat-folder input, #chat-folder textarea").fill("Fruit & <b>more</b>")
        page.locator("#chat-move-now").click()
        folder = page.locator("#chat-list details", has_text="Fruit & <b>more</b>")
        expect(folder.locator("[data-pick]")).to_have_count(1)
        web.menu(ids["Apples"])
        page.locator("#chat-move").click()
        page.locator("#chat-folders [data-pick]", has_text="Fruit").click()  # one click into a folder that there is
        expect(folder.locator("[data-pick]")).to_have_count(2)
        with page.expect_download() as asked:
            web.menu(ids["Pears"])
            page.locator("#chat-download").click()
        about = json.loads(Path(asked.value.path()).read_text("utf-8"))["about"]
        assert (about["title"], about["folder"]) == ("Quinces", "Fruit & <b>more</b>")
        web.menu(ids["Pears"])
        page.locator("#chat-delete").click()
        expect(page.locator("#chat-deleting")).to_contain_text("Quinces")
        page.locator("#chat-delete-now").click()
        expect(folder.locator("[data-pick]")).to_have_count(1)
        expect(page.locator("#chat-title")).to_contain_text("Apples")  # it is still open
        assert ids["Pears"] in [info.id for info in web.app.archive.trash()]


def test_folders_stay_folded_and_search_looks_into_them(web: Web) -> None:
    page = web.window
    with chats(web, Apples="", Pears="Orchard", Plums="Orchard", Oaks="Trees"):
        expect(page.locator("#chat-list summary")).to_have_text(["Orchard2", "Trees1"])
        page.locator("#chat-list summary", has_text="Orchard").click()
        pears = page.locator("#chat-list [data-pick]", has_text="Pears")
        expect(pears).to_be_hidden()
        page.reload()
        web.ready()
        expect(page.locator("#chat-list [data-pick]", has_text="Oaks")).to_be_visible()
        expect(pears).to_be_hidden()
        page.locator("#chat-search input, #chat-search textarea").fill("orchard")
        expect(page.locator("#chat-list [data-pick]")).to_have_count(2)
        expect(pears).to_be_visible()


#: What may stand where the folded folders are kept, and what is read from it.
_STORED = (
    ("{", []), ("", []), ("null", []), ("5", []), ('"Orchard"', []), ('{"length": 1}', []), ("[1, null]", []),
    ('[1, ["Trees"], "Orchard"]', ["Orchard"]), ("undefined", []),
)  # fmt: skip


def test_whatever_stands_in_the_browsers_storage_the_page_works(web: Web) -> None:
    page = web.window
    with chats(web, Apples="", Pears="Orchard", Oaks="Trees"):
        put = "value => { localStorage.setItem('folded', value); return Chats.folded(); }"
        assert [page.evaluate(put, value) for value, _ in _STORED] == [read for _, read in _STORED]
        page.evaluate(put, "{broken")
        page.reload()
        web.ready()
        pears = page.locator("#chat-list [data-pick]", has_text="Pears")
        expect(pears).to_be_visible()
        page.locator("#chat-list summary", has_text="Orchard").click()
        expect(pears).to_be_hidden()
        assert page.evaluate("localStorage.getItem('folded')") == '["Orchard"]'
        page.evaluate("localStorage.removeItem('folded')")


def test_stored_values_are_parsed_in_one_guarded_place() -> None:
    scripts = sorted((ROOT / "modules" / "ui").rglob("*.js"))
    found = [
        (file.name, line.strip())
        for file in scripts
        for line in file.read_text("utf-8").splitlines()
        if "JSON.parse" in line and ("Storage" in line or "getItem" in line)
    ]
    assert [name for name, _ in found] == ["storage.js"]
    assert found[0][1].startswith("const kept = JSON.parse(window[name].getItem(key)")


def test_a_folder_is_renamed_and_removed_with_the_keyboard_and_back_again(web: Web) -> None:
    page = web.window
    with chats(web, Apples="", Pears="Orchard", Plums="Orchard", Oaks="Trees") as ids:
        names = page.locator("#chat-list summary > span")
        button = page.locator("#chat-list [data-kind=folder]").first
        page.locator("#chat-list summary", has_text="Orchard").click()  # folded, and stays so
        page.locator("#chat-list summary", has_text="Orchard").focus()
        page.keyboard.press("Shift+Tab")
        expect(button).to_be_focused()
        expect(button).to_have_attribute("aria-label", "Actions: folder Orchard")
        page.keyboard.press("Enter")
        expect(page.locator("#folder-rename")).to_be_focused()
        expect(page.locator("#chat-rename, #chat-delete").first).to_be_hidden()
        page.keyboard.press("ArrowDown")
        expect(page.locator("#folder-remove")).to_be_focused()
        page.keyboard.press("ArrowDown")  # around
        page.keyboard.press("Enter")
        field = page.locator("#folder-name input, #folder-name textarea")
        expect(field).to_be_focused()
        expect(field).to_have_value("Orchard")
        assert violations(page) == []
        page.keyboard.type(" Old <b>trees</b> ")
        page.keyboard.press("Enter")
        expect(names).to_have_text(["Old <b>trees</b>", "Trees"])
        expect(page.locator("#chat-list [data-menu='Old <b>trees</b>']")).to_be_focused()
        expect(page.locator("#chat-list [data-pick]", has_text="Pears")).to_be_hidden()
        assert {web.app.chats.open(ids[each]).folder for each in ("Pears", "Plums")} == {"Old <b>trees</b>"}
        page.keyboard.press("Enter")
        page.keyboard.press("ArrowUp")
        expect(page.locator("#folder-remove")).to_be_focused()
        page.keyboard.press("Enter")
        expect(names).to_have_text(["Trees"])
        expect(page.locator("#chat-list [data-pick]", has_text="Pears")).to_be_visible()
        expect(page.locator("#chat-list [data-pick][aria-current]")).to_be_focused()
        expect(page.locator("#chat-title")).to_contain_text("Apples")
        page.locator("#chat-undo").click()
        expect(names).to_have_text(["Old <b>trees</b>", "Trees"])
        assert web.app.chats.open(ids["Apples"]).folder == ""  # the open chat has lost nothing
        assert len(web.app.chats.open(ids["Apples"]).path()) == 2


def test_the_open_chat_in_a_folder_goes_with_it_and_a_refusal_says_why(web: Web) -> None:
    page = web.window
    with chats(web, Apples="Orchard", Oaks="Trees") as ids:
        web.menu("Orchard")
        page.locator("#folder-rename").click()
        field = page.locator("#folder-name input, #folder-name textarea")
        field.fill("x" * 61)
        page.locator("#folder-rename-now").click()
        expect(page.locator(".toast-body", has_text="60 characters")).to_be_visible()
        expect(page.locator("#chat-list summary > span")).to_have_text(["Orchard", "Trees"])
        web.menu("Orchard")
        page.locator("#folder-rename").click()
        field.fill("Trees")  # two become one
        page.locator("#folder-rename-now").click()
        expect(page.locator("#chat-list summary")).to_have_text(["Trees2"])
        web.menu(ids["Apples"])  # of a chat: its own entries again
        expect(page.locator("#folder-rename")).to_be_hidden()
        page.locator("#chat-pin").click()  # the open chat is at its newest revision
        expect(page.locator("#chat-list h3").first).to_have_text("Pinned")
        page.locator("#chat-undo").click()  # of the pin
        expect(page.locator("#chat-list summary")).to_have_text(["Trees2"])
        page.locator("#chat-undo").click()  # of the folder, of this chat alone: it was changed since
        expect(page.locator("#chat-list summary > span")).to_have_text(["Orchard", "Trees"])


def test_the_menu_is_used_with_the_keyboard(web: Web) -> None:
    page = web.window
    with chats(web, Apples="", Pears="") as ids:
        button = page.locator(f'#chat-list [data-menu="{ids["Pears"]}"]')
        page.locator(f'#chat-list [data-pick="{ids["Pears"]}"]').focus()
        page.keyboard.press("Tab")
        expect(button).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#chat-rename")).to_be_focused()
        expect(button).to_have_attribute("aria-expanded", "true")
        page.keyboard.press("ArrowUp")
        expect(page.locator("#chat-delete")).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.locator("#chat-menu")).to_be_hidden()
        expect(button).to_be_focused()
        page.keyboard.press("Enter")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        expect(page.locator("#chat-list h3").first).to_have_text("Pinned")
        expect(button).to_be_focused()  # in its new place


def test_the_list_is_one_stop_of_the_tab_key(web: Web) -> None:
    page = web.window
    with chats(web, Apples="", Pears="", Plums="Fruit", Figs="Fruit") as ids:
        entry = lambda title: page.locator(f'#chat-list [data-pick="{ids[title]}"]')  # noqa: E731
        page.locator("#chat-search :is(input, textarea)").focus()
        page.keyboard.press("Tab")
        expect(entry("Apples")).to_be_focused()  # the open one
        page.keyboard.press("Tab")
        expect(page.locator(f'#chat-list [data-menu="{ids["Apples"]}"]')).to_be_focused()
        page.keyboard.press("Tab")
        assert not page.evaluate("document.activeElement.closest('#chat-list')")
        entry("Apples").focus()
        page.keyboard.press("Home")
        expect(page.locator("#chat-list summary")).to_be_focused()
        page.keyboard.press("ArrowRight")
        expect(page.locator("#chat-list [data-kind=folder]")).to_be_focused()
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Enter")  # folded
        page.keyboard.press("ArrowDown")
        expect(page.locator("#chat-list .entry:not(details *) [data-pick]").first).to_be_focused()
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Enter")
        page.keyboard.press("ArrowDown")
        assert page.evaluate("document.activeElement.closest('details')?.dataset.folder") == "Fruit"
        page.keyboard.press("Enter")
        expect(page.locator("#chat-title")).to_contain_text(re.compile("Figs|Plums"))


def test_a_chat_keeps_parameters_and_a_system_message(web: Web) -> None:
    page, app = web.window, web.app
    with chats(web, Apples="", Pears="") as ids:
        page.keyboard.press("Control+s")
        expect(page.locator("#chat-title [data-own]")).to_have_count(0)
        page.locator("#own-keep").click()
        expect(page.locator("#own-what [data-pick=top_k]")).to_have_text("top_k 1: reset in this chat")
        page.locator("#own-system textarea").fill("Answer with one word.")
        page.locator("#own-system textarea").blur()
        expect(page.locator("#chat-title [data-own]")).to_have_attribute(
            "title", "This chat has its own settings: max_new_tokens 120, do_sample off, top_k 1, system message"
        )
        web.tab("parameters")
        expect(page.locator("#own-notice")).to_contain_text("max_new_tokens 120")
        page.locator("#knob-max_new_tokens input[type=number]").fill("7")
        page.locator("#knob-max_new_tokens input[type=number]").press("Tab")
        expect(page.locator("#differing [data-pick=max_new_tokens]")).to_contain_text("7")
        web.tab("chat")
        web.ask("And pears?")
        record = app.chats.record(ids["Apples"], app.chats.open(ids["Apples"]).path()[-1].id)
        assert record.params["max_new_tokens"] == 120
        assert "Answer with one word." in record.text
        page.locator(f'#chat-list [data-pick="{ids["Pears"]}"]').click()  # another chat has what the tab has
        expect(page.locator("#chat-title [data-own]")).to_have_count(0)
        expect(page.locator("#own-system textarea")).to_have_value("")
        web.ask("And apples?")
        record = app.chats.record(ids["Pears"], app.chats.open(ids["Pears"]).path()[-1].id)
        assert record.params["max_new_tokens"] == 7
        assert "one word" not in record.text
        web.tab("parameters")
        expect(page.locator("#own-notice")).to_be_hidden()
        web.tab("chat")
        page.locator(f'#chat-list [data-pick="{ids["Apples"]}"]').click()
        page.locator("#own-what [data-pick=top_k]").click()  # one of it
        expect(page.locator("#own-what [data-pick=top_k]")).to_have_count(0)
        web.tab("parameters")
        page.locator("#own-notice-load").click()
        expect(page.locator("#knob-max_new_tokens input[type=number]")).to_have_value("120")
        expect(page.locator("#differing [data-pick=max_new_tokens]")).to_contain_text("120")
        page.locator("#knob-max_new_tokens input[type=number]").fill("9")
        page.locator("#knob-max_new_tokens input[type=number]").press("Tab")
        page.locator("#own-notice-keep").click()
        expect(page.locator("#own-notice")).to_contain_text("max_new_tokens 9")
        web.tab("chat")
        page.locator("#own-reset").click()  # all of it
        expect(page.locator("#chat-title [data-own]")).to_have_count(0)
        expect(page.locator("#own-reset")).to_be_hidden()
        until(lambda: not OwnSettings.of(app.chats.open(ids["Apples"])))


#: Says what it was given.
SWITCHED = (
    "[thinks {{ enable_thinking }} {{ reasoning_effort or 'usual' }}]"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_a_chat_keeps_thinking_effort_and_templates(web: Web) -> None:
    page, app = web.window, web.app

    def choose(switch: str, value: str) -> None:
        page.locator(f"#own-{switch} input").click()
        page.get_by_role("option", name=value, exact=True).click()
        expect(page.locator(f"#own-{switch} input")).to_have_value(value)

    def prompt(title: str) -> str:
        web.ask("And?")
        return str(app.chats.record(ids[title], app.chats.open(ids[title]).path()[-1].id).text)

    with chats(web, Apples="", Pears="") as ids:
        page.keyboard.press("Control+s")
        choose("thinking", "off")
        expect(page.locator("#own-what [data-pick='prompt.thinking']")).to_contain_text("Enable thinking: off")
        choose("effort", "High")
        expect(page.locator("#chat-title [data-own]")).to_have_attribute(
            "title", "This chat has its own settings: Enable thinking: off, Reasoning effort: High"
        )
        web.tab("parameters")
        page.get_by_role("tab", name="Instruction template", exact=True).click()
        field = page.locator("#template-text textarea")
        field.fill(SWITCHED)
        expect(page.locator("#template-preview")).to_contain_text("[thinks")
        web.tab("chat")
        page.locator("#own-keep-templates").click()
        expect(page.locator("#own-what [data-pick='prompt.instruction_template']")).to_be_visible()
        expect(page.locator(".toast-body")).to_have_count(0)
        assert violations(page) == []
        web.tab("parameters")
        expect(page.locator("#own-templates")).to_contain_text("keeps its own: Instruction template (Jinja)")
        assert violations(page) == []
        page.locator("#template-clear").click()
        expect(field).to_have_value("")
        web.tab("chat")
        assert prompt("Apples").startswith("[thinks False high]")
        page.locator(f'#chat-list [data-pick="{ids["Pears"]}"]').click()
        expect(page.locator("#own-thinking input")).to_have_value("As in all chats")
        assert "[thinks" not in prompt("Pears")
        page.reload()
        web.ready()
        page.locator(f'#chat-list [data-pick="{ids["Apples"]}"]').click()
        expect(page.locator("#chat-title")).to_contain_text("Apples")
        page.keyboard.press("Control+s")
        expect(page.locator("#own-thinking input")).to_have_value("off")
        expect(page.locator("#own-effort input")).to_have_value("High")
        page.locator("#own-what [data-pick='prompt.thinking']").click()
        expect(page.locator("#own-thinking input")).to_have_value("As in all chats")
        choose("effort", "As in all chats")
        expect(page.locator("#own-what [data-pick='prompt.effort']")).to_have_count(0)
        page.locator("#own-what [data-pick='prompt.instruction_template']").click()
        expect(page.locator("#chat-title [data-own]")).to_have_count(0)
        page.locator("#own-keep-templates").click()  # the fields are empty
        expect(page.locator(".toast-body")).to_contain_text("nothing to keep")
        assert not OwnSettings.of(app.chats.open(ids["Apples"]))


def test_with_a_finger_on_a_narrow_page(narrow: Web) -> None:
    page = narrow.window
    with chats(narrow, Apples="", Pears="Orchard") as ids:
        narrow.menu()  # in the head, over the conversation
        page.locator("#chat-move").click()
        page.locator("#chat-folders [data-pick]", has_text="Orchard").click()
        page.locator("#chats-toggle").click()
        expect(page.locator("#chat-list details [data-pick]")).to_have_count(2)
        narrow.menu(ids["Pears"])
        expect(page.locator("#chats")).to_be_visible()
        for part in ("#chat-rename", "#chat-delete", f'#chat-list [data-menu="{ids["Pears"]}"]'):
            box = page.locator(part).bounding_box()
            assert box
            assert box["height"] >= 40
            assert 0 <= box["x"] <= box["x"] + box["width"] <= 360
        assert violations(page) == []
        page.locator("#chat-move").click()
        expect(page.locator("#chat-folder input, #chat-folder textarea")).to_be_focused()
        assert violations(page) == []
        page.mouse.click(350, 780)  # beside it
        expect(page.locator("#chat-menu")).to_be_hidden()
        narrow.app.edits.set_system_message(ids["Apples"], "Be brief.")
        page.locator("#chat-title [data-own]").click()
        expect(page.locator("#own-system textarea")).to_have_value("Be brief.")
        assert violations(page) == []
