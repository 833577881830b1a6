"""Text is shown exactly as written: in the chat on both sides, and in the Markdown view."""

from __future__ import annotations

from modules.chat.conversation import Conversation
from modules.chat.store.store import ConversationStore
from modules.ui.chat.view import make_bubble
from tests.ui.conftest import Web

#: What is written, and what is to be read on the page where that is something else.
TEXTS = (
    ("if a<b and c>d then stop.", ""),
    ("The <title> tag comes first. Then the <body>. All this is to be seen.", ""),
    ("use the <script> tag or the <style> tag for that", ""),
    ("Use <br> or <hr> or <p> here, </div> and <!-- this --> too.", ""),
    ("use <?php echo 1 ?> here, <![CDATA[x]]> and <!DOCTYPE html>", ""),
    ("Write <textarea> and more text. <svg> and <math> and <int> and List<object> too", ""),
    ("<div>\nat the start\n</div>", ""),
    ("<table><tr><td>cells</td></tr></table>", ""),
    ("&amp; &lt;b&gt; &copy; &nbsp; &#65; & and AT&T", ""),
    ("see https://example.invalid/?a=1&b=2&copy=3 there", ""),
    ("`&amp;` and `<b>` and `a && b` in a line", "&amp; and <b> and a && b in a line"),
    ("```html\n&amp; &lt;b&gt; &copy; <b>x</b> a && b\n```", "&amp; &lt;b&gt; &copy; <b>x</b> a && b"),
    ("- a list:\n\n  ```\n  x < y && z\n  ```", "a list:\nx < y && z"),
    ("words:\n\n    x < y && z", "words:\nx < y && z"),
    ("- a ` b <i>\n- c ` d <x>", "a ` b <i>\nc ` d <x>"),
    ("~5 to ~10 minutes, H~2~O, ~~gone~~", "~5 to ~10 minutes, H~2~O, gone"),
    ("It costs $$5 and then $$6 more.", ""),
    ("`echo $$` and `kill $$` and <b>", "echo $$ and kill $$ and <b>"),
    ("```\necho $$ <a>\n```\n\nand\n\n```\nkill $$ &amp;\n```", "echo $$ <a>\nand\nkill $$ &amp;"),
    ("这是**「重点」**的词，**注意：**看", "这是「重点」的词，注意：看"),
    ("a \\< b, \\*no\\* and a\\b", "a < b, *no* and a\\b"),
    ("a | b\n-|-\n<i> | `<c>`", "a\tb\n<i>\t<c>"),
    ("an address: <https://example.invalid/x>", "an address: https://example.invalid/x"),
    ("> quoted <b>\n> `<c>`", "quoted <b>\n<c>"),
)  # fmt: skip

#: The texts of messages as they are seen, spaces and line ends aside.
_READ = """
() => [...document.querySelectorAll('#column .message .prose')].map((each) => {
  const copy = each.cloneNode(true);
  copy.querySelectorAll('button').forEach((button) => button.remove());
  copy.querySelectorAll('br, td, th').forEach((part) => part.after(' '));
  return copy.textContent;
})
"""


def plain(text: str) -> str:
    """Spaces and line ends are the renderer's."""
    return " ".join(text.split())


def test_both_sides_see_and_copy_what_was_written(web: Web) -> None:
    page = web.window
    with web.both_say([written for written, _ in TEXTS]):
        page.wait_for_timeout(500)
        read = [plain(each) for each in page.evaluate(_READ)]
        wanted = [plain(expected or written) for written, expected in TEXTS for _ in range(2)]
        assert len(read) == len(wanted)
        wrong = [(want, got) for want, got in zip(wanted, read, strict=True) if want != got]
        assert not wrong, "\n".join(map(repr, wrong))
        assert page.locator("#column .prose s, #column .prose del").count() == 2  # of ~~gone~~, on each side
        assert page.locator("#column .prose .katex").count() == 0
        assert page.locator("#column .prose strong").count() == 4
        shown = [make_bubble("user", written)["content"][0]["text"] for written, _ in TEXTS]
        copied = page.evaluate("(texts) => texts.map(Page.written)", shown)
        assert copied == [written for written, _ in TEXTS]
        labels = page.evaluate("[...document.querySelectorAll('#column .selectable')].map((each) => each.ariaLabel)")
        assert not [label for label in labels if "&#0" in label]


def test_a_formula_is_still_one(web: Web) -> None:
    made = Conversation(web.app.chats.new().id)
    made.add("assistant", "So $$a<b$$, \\(x_1 < y\\) and **bold**.", None)
    ConversationStore(web.app.paths).save(made)
    web.page.locator(f'#chat-list [data-pick="{made.id}"]').click()
    web.page.locator("#column .prose .katex").nth(1).wait_for()
    assert web.page.locator("#column .prose strong").inner_text() == "bold"
    web.app.chats.delete(made.id)
