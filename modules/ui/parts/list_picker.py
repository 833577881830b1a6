"""A list from which one entry is picked: real buttons in one HTML component, usable with the keyboard.

Gradio's own lists have no second line or headings. The choice arrives as `event.pick`; if the button
that deletes an entry was pressed, as `event.remove`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import gradio as gr

from modules.ui.parts.formatting import escape

_PICK = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-pick], [data-remove]');
  if (!button || button.disabled) return;
  trigger('click', {pick: button.dataset.pick ?? '', remove: button.dataset.remove ?? ''});
});
"""


@dataclass(frozen=True)
class PickerEntry:
    """One line of a list; `mark` is what a small dot after its title means, "" for none.

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
    """The HTML of a list; `empty` is the text shown if it has no entries."""
    lines: list[str] = []
    for (group, folds, menu), members in groupby(items, key=lambda item: (item.group, item.folds, item.group_menu)):
        made = [_line(item, chosen=item.key == current) for item in members]
        lines.append(_group(group, made, folds=folds, menu=menu))
    if not lines:
        return f"<p class='empty'>{escape(empty)}</p>" if empty else ""
    return f"<nav aria-label='{escape(label)}'>{''.join(lines)}</nav>"


def _group(name: str, lines: Sequence[str], *, folds: bool, menu: str) -> str:
    listed = "".join(lines)
    if folds:
        head = f"<summary><span>{escape(name)}</span><small>{len(lines)}</small></summary>"
        details = f"<details open data-folder='{escape(name)}'>{head}{listed}</details>"
        # before it: a button must not stand in a summary, and inside of what is folded it would be hidden
        button = menu_button(name, menu, kind="folder") if menu else ""
        return f"<div class='folder'>{button}{details}</div>"
    return f"<h3>{escape(name)}</h3>{listed}" if name else listed


def menu_button(key: str, label: str, *, pinned: bool = False, kind: str = "") -> str:
    """The button that opens the menu of an entry, or of another `kind`; `label` is for screen readers."""
    mark = (" data-pinned" if pinned else "") + (f" data-kind='{kind}'" if kind else "")
    return (
        f"<button type='button' class='menu' data-menu='{escape(key)}'{mark} aria-label='{escape(label)}' "
        f"title='{escape(label)}' aria-expanded='false'>⋯</button>"
    )


def _line(item: PickerEntry, *, chosen: bool) -> str:
    current = " aria-current='true'" if chosen else ""
    disabled = " disabled" if item.disabled else ""
    detail = f"<small>{escape(item.detail)}</small>" if item.detail else ""
    badge = f"<em>{escape(item.badge)}</em>" if item.badge else ""
    if item.mark:
        badge += f"<i class='mark' role='img' aria-label='{escape(item.mark)}' title='{escape(item.mark)}'></i>"
    line = (
        f"<button type='button' data-pick='{escape(item.key)}'{current}{disabled}>"
        f"<span>{escape(item.title)}</span>{badge}{detail}</button>"
    )
    if item.remove:
        told = f"aria-label='{escape(item.remove)}' title='{escape(item.remove)}'"
        button = f"<button type='button' class='menu' data-remove='{escape(item.key)}' {told}>×</button>"
        return f"<div class='entry'>{line}{button}</div>"
    if not item.menu:
        return line
    return f"<div class='entry'>{line}{menu_button(item.key, item.menu, pinned=item.pinned)}</div>"


def picker_chips(label: str, items: Iterable[tuple[str, str]], verb: str) -> str:
    """A row of small buttons: key and text. `verb` says what a click does, for screen readers."""
    made = [
        f"<button type='button' data-pick='{escape(key)}' title='{escape(verb)}'>{escape(text)}"
        f"<span class='sr-only'>: {escape(verb)}</span></button>"
        for key, text in items
    ]
    return f"<div role='group' aria-label='{escape(label)}' class='chips'>{''.join(made)}</div>" if made else ""
