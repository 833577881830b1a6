"""axe-core finds nothing on any tab, in light and dark, with a reply of every kind in the chat."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.ui.axe import violations
from tests.ui.conftest import Web

RICH = """# A heading

| Item | Price |
|:-----|------:|
| Apple | 12 |

- [ ] open
- [x] done

```python
@cached  # a comment
class Apple(Fruit):
    price: float = 12.5 if RIPE and True else None


def f(x):
    return "a line that is so long that it has to be scrolled sideways, with the keyboard, too, by everyone" * x
```

A [link](#here), inline $E = mc^2$, `code`, and ![cat](https://example.com/cat.png).

> quoted
"""
THOUGHT = "<think>\nFirst I think about it.\n</think>\n\n" + RICH
#: The tabs with their sub-tabs, by the names of these.
TABS = {
    "default": (), "notebook": (), "parameters": ("Generation", "Character", "Instruction template"), "model": (),
    "training": ("Train LoRA", "Perplexity"), "session": (),
}  # fmt: skip


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(web: Web, theme: str) -> None:
    page = web.window
    page.add_init_script(f"try {{ localStorage.setItem('theme', '{theme}') }} catch {{}}")  # frames have none
    wrong: dict[str, object] = {}

    def check(where: str) -> None:
        page.wait_for_timeout(400)
        assert page.evaluate("document.body.classList.contains('dark')") == (theme == "dark")
        if found := violations(page):
            wrong[where] = found

    with web.both_say([RICH, THOUGHT], "Rich"):
        page.locator("#tail .bot-row .prose").last.click()
        expect(page.locator("#message-bar")).to_be_visible()
        check("chat")
    for tab, pages in TABS.items():
        web.tab(tab)
        for name in pages or ("",):
            if name:
                page.get_by_role("tab", name=name, exact=True).click()
            check(f"{tab} {name}".strip())
    assert not wrong, "\n".join(f"{where}: {found}" for where, found in wrong.items())


def test_what_is_picked_with_the_keyboard_is_edited_with_it(web: Web) -> None:
    page = web.window
    with web.both_say(["One.", "Two."]):
        page.keyboard.press("Tab")
        page.evaluate("document.activeElement.blur()")
        page.locator("#skip").focus()
        page.keyboard.press("Enter")
        expect(page.locator("#message textarea")).to_be_focused()
        page.locator("#history .bot-row .selectable").first.focus()
        page.keyboard.press("Enter")
        expect(page.locator("#message-edit")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#message-text textarea")).to_be_focused()
        # the editor stands where the message stands
        top = "document.querySelector('{}').getBoundingClientRect().top"
        page.wait_for_function(f"Math.abs({top.format('#message-editing')} - {top.format('#history .bot-row')}) < 40")


def test_a_finished_reply_is_one_sentence_for_a_screen_reader(web: Web) -> None:
    page = web.page
    web.new_chat()
    web.ask("Tell me the capital of France.")
    expect(page.locator("#said")).to_contain_text("Reply finished.")
    expect(page.locator("#said")).to_contain_text("tokens")
    assert page.locator("#column [aria-live=polite]").count() == 0
