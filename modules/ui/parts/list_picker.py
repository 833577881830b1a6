"""A list from which one entry is picked: real buttons in one HTML component, usable with the keyboard.

Gradio's own lists have no second line or headings. The choice arrives as `event.pick`; if the button
that deletes an entry was pressed, as `event.remove`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import gradio as gr

from modules.ui.parts.formatting import escape, join_facts

#: The last characters of a title that are never cut.
_LAST = 10

_NO_STOP = " tabindex='-1'"

# If the list is redrawn between pressing and releasing the mouse, browsers report no click: it counts all the same.
_PICK = """
const pick = (button) => {
  if (!button || button.disabled) return;
  trigger('click', {pick: button.dataset.pick ?? '', remove: button.dataset.remove ?? ''});
};
const under = (event) => event.target.closest('[data-pick], [data-remove]');
let pressed = null;
element.addEventListener('pointerdown', (event) => {
  pressed = event.button === 0 ? {button: under(event), x: event.clientX, y: event.clientY} : null;
});
element.addEventListener('pointerup', (event) => {
  const gone = pressed?.button && !pressed.button.isConnected;
  if (gone && Math.hypot(event.clientX - pressed.x, event.clientY - pressed.y) < 10) pick(pressed.button);
  pressed = null;
});
element.addEventListener('click', (event) => pick(under(event)));
"""


@dataclass(frozen=True)
class PickerEntry:
    """One line of a list; `mark` is what a small dot after its title means, "" for none.

    `tag` stands beside the title, of which a narrow list shows both ends; `badge` begins the second line.

    `group` is a heading, shown when it changes; `folds`: the group can be folded.
    `menu` is what screen readers say of the button that opens the entry's menu; "" for none. `pinned` is for the menu.
    `group_menu`: the same for the menu of a group that can be folded. `remove`: what they say of the button that
    deletes the entry; "" for none.
    """

    key: str
    title: str
    detail: str = ""
    group: str = ""
    badge: str = ""
    tag: str = ""
    mark: str = ""
    disabled: bool = False
    folds: bool = False
    menu: str = ""
    pinned: bool = False
    group_menu: str = ""
    remove: str = ""


def make_picker(elem_id: str, value: str = "", elem_classes: str = "picker") -> gr.HTML:
    """The component. `.click` reports what was picked."""
    return gr.HTML(value, elem_id=elem_id, elem_classes=elem_classes, js_on_load=_PICK, padding=False)


def picker_entries(label: str, items: Iterable[PickerEntry], current: str = "", empty: str = "") -> str:
    """The HTML of a list; `empty` is the text shown if it has no entries.

    Only one entry is a stop of the Tab key: the arrow keys do the rest (chats.js).
    """
    lines: list[str] = []
    entries = list(items)
    keys = [item.key for item in entries if not item.disabled]
    stop = current if current in keys else next(iter(keys), "")
    for (group, folds, menu), members in groupby(entries, key=lambda item: (item.group, item.folds, item.group_menu)):
        made = [_line(item, chosen=item.key == current, stop=item.key == stop) for item in members]
        lines.append(_group(group, made, folds=folds, menu=menu))
    if not lines:
        return f"<p class='empty'>{escape(empty)}</p>" if empty else ""
    return f"<nav aria-label='{escape(label)}'>{''.join(lines)}</nav>"


def _group(name: str, lines: Sequence[str], *, folds: bool, menu: str) -> str:
    listed = "".join(lines)
    if folds:
        head = f"<summary{_NO_STOP}><span>{escape(name)}</span><small>{len(lines)}</small></summary>"
        details = f"<details open data-folder='{escape(name)}'>{head}{listed}</details>"
        # before it: a button must not stand in a summary, and inside of what is folded it would be hidden
        button = menu_button(name, menu, kind="folder", more=_NO_STOP) if menu else ""
        return f"<div class='folder'>{button}{details}</div>"
    return f"<h3>{escape(name)}</h3>{listed}" if name else listed


def menu_button(key: str, label: str, *, pinned: bool = False, kind: str = "", more: str = "") -> str:
    """The button that opens the menu of an entry, or of another `kind`; `label` is for screen readers, `more` are
    further attributes.
    """
    mark = (" data-pinned" if pinned else "") + (f" data-kind='{kind}'" if kind else "")
    return (
        f"<button type='button' class='menu' data-menu='{escape(key)}'{mark} aria-label='{escape(label)}' "
        f"title='{escape(label)}' aria-expanded='false'{more}>⋯</button>"
    )


def _title(item: PickerEntry) -> str:
    """The title; beside a tag, its last characters stay in sight however narrow the list is."""
    if not item.tag:
        return f"<span>{escape(item.title)}</span>"
    first, last = item.title[:-_LAST], item.title[-_LAST:]
    return f"<span class='ends' title='{escape(item.title)}'><b>{escape(first)}</b><b>{escape(last)}</b></span>"


def _line(item: PickerEntry, *, chosen: bool, stop: bool) -> str:
    reached = "" if stop else _NO_STOP
    current = " aria-current='true'" if chosen else ""
    disabled = " disabled" if item.disabled else ""
    facts = [f"<em>{escape(item.badge)}</em>" if item.badge else "", escape(item.detail)]
    detail = f"<small>{join_facts(*facts)}</small>" if any(facts) else ""
    beside = f" <em>{escape(item.tag)}</em>" if item.tag else ""
    if item.mark:
        beside += f"<i class='mark' role='img' aria-label='{escape(item.mark)}' title='{escape(item.mark)}'></i>"
    line = (
        f"<button type='button' data-pick='{escape(item.key)}'{current}{disabled}{reached}>"
        f"{_title(item)}{beside}{detail}</button>"
    )
    if item.remove:
        told = f"aria-label='{escape(item.remove)}' title='{escape(item.remove)}'"
        button = f"<button type='button' class='menu' data-remove='{escape(item.key)}' {told}{reached}>×</button>"
        return f"<div class='entry'>{line}{button}</div>"
    if not item.menu:
        return line
    return f"<div class='entry'>{line}{menu_button(item.key, item.menu, pinned=item.pinned, more=reached)}</div>"


def picker_chips(label: str, items: Iterable[tuple[str, str]], verb: str) -> str:
    """A row of small buttons: key and text. `verb` says what a click does, for screen readers."""
    made = [
        f"<button type='button' data-pick='{escape(key)}' title='{escape(verb)}'>{escape(text)}"
        f"<span class='sr-only'>: {escape(verb)}</span></button>"
        for key, text in items
    ]
    return f"<div role='group' aria-label='{escape(label)}' class='chips'>{''.join(made)}</div>" if made else ""
