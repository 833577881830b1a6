"""The page's theme: system fonts, warm greys, one accent colour, in light and dark.

All colours are defined here, once, as gradio's theme; style.css defines the layout and never names a colour. Nothing is
loaded from elsewhere: no web fonts, style sheets or scripts.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import gradio as gr
from gradio.themes.utils.colors import Color
from gradio.themes.utils.sizes import Size

from modules.ui.texts import Texts

_HERE = Path(__file__).resolve().parent

#: In the order in which they run.
_SCRIPTS = (
    "storage.js", "page.js", "answers.js", "conversation.js", "sending.js", "editors.js", "chats.js", "hub.js",
)  # fmt: skip

_TEAL = Color(
    "#effaf7", "#d6f1ea", "#b0e3d7", "#7fcfbf", "#4fb5a3", "#2c9a88", "#127566", "#0f6156", "#104e46", "#10403a",
    "#05251f", name="teal",
)  # fmt: skip
_STONE = Color(
    "#fbfaf8", "#f5f3f0", "#eae7e2", "#d9d5ce", "#a8a49c", "#7b7871", "#5d5b56", "#45433f", "#2d2c2a", "#201f1e",
    "#171716", name="stone",
)  # fmt: skip
_TEXT = Size("11px", "12px", "13px", "15px", "16px", "19px", "24px", name="text")
_SPACE = Size("2px", "4px", "6px", "8px", "12px", "16px", "24px", name="space")
_CORNERS = Size("3px", "4px", "6px", "8px", "8px", "8px", "8px", name="corners")
_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Helvetica Neue", "Arial", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Cascadia Mono", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")

#: What differs between light and dark: gradio's name, light, dark.
_COLOURS: tuple[tuple[str, str, str], ...] = (
    ("body_background_fill", "#fbfaf8", "#171918"),
    ("body_text_color", "#23211e", "#e4e3df"),
    ("body_text_color_subdued", "#64615b", "#a3a29c"),
    ("background_fill_primary", "#ffffff", "#1e2120"),
    ("background_fill_secondary", "#f4f2ee", "#252827"),
    ("border_color_primary", "#e4e0d9", "#333736"),
    ("border_color_accent", "#7fcfbf", "#2f6f64"),
    ("border_color_accent_subdued", "#d9d5ce", "#3b403e"),
    ("color_accent_soft", "#e9f5f1", "#1f3530"),
    ("block_background_fill", "#ffffff", "#1e2120"),
    ("block_border_color", "#e4e0d9", "#333736"),
    ("block_info_text_color", "#64615b", "#a3a29c"),
    ("block_label_text_color", "#64615b", "#a3a29c"),
    ("block_title_text_color", "#23211e", "#e4e3df"),
    ("input_background_fill", "#ffffff", "#1e2120"),
    ("input_background_fill_focus", "#ffffff", "#1e2120"),
    ("input_border_color", "#8c877f", "#787f7c"),
    ("input_border_color_focus", "#127566", "#5cc0ae"),
    ("input_placeholder_color", "#75726b", "#92918b"),
    ("panel_background_fill", "#ffffff", "#1e2120"),
    ("panel_border_color", "#e4e0d9", "#333736"),
    ("button_primary_background_fill", "#127566", "#5cc0ae"),
    ("button_primary_background_fill_hover", "#0f6156", "#7fcfbf"),
    ("button_primary_border_color", "#127566", "#5cc0ae"),
    ("button_primary_border_color_hover", "#0f6156", "#7fcfbf"),
    ("button_primary_text_color", "#ffffff", "#0b211d"),
    ("button_primary_text_color_hover", "#ffffff", "#0b211d"),
    ("button_secondary_background_fill", "#ffffff", "#252827"),
    ("button_secondary_background_fill_hover", "#f4f2ee", "#2e3231"),
    ("button_secondary_border_color", "#cfcac1", "#464b49"),
    ("button_secondary_border_color_hover", "#a8a49c", "#5c6260"),
    ("button_secondary_text_color", "#23211e", "#e4e3df"),
    ("button_secondary_text_color_hover", "#23211e", "#e4e3df"),
    ("button_cancel_background_fill", "#ffffff", "#252827"),
    ("button_cancel_background_fill_hover", "#fbeeec", "#3a2624"),
    ("button_cancel_border_color", "#cfcac1", "#464b49"),
    ("button_cancel_border_color_hover", "#b3453a", "#e39186"),
    ("button_cancel_text_color", "#a33a2f", "#eda399"),
    ("button_cancel_text_color_hover", "#a33a2f", "#eda399"),
    ("checkbox_background_color", "#ffffff", "#252827"),
    ("checkbox_background_color_selected", "#127566", "#2c9a88"),
    ("checkbox_border_color", "#8c877f", "#787f7c"),
    ("checkbox_border_color_focus", "#127566", "#5cc0ae"),
    ("checkbox_border_color_selected", "#127566", "#2c9a88"),
    ("checkbox_label_background_fill", "#ffffff", "#1e2120"),
    ("checkbox_label_text_color", "#23211e", "#e4e3df"),
    ("code_background_fill", "#f4f2ee", "#252827"),
    ("link_text_color", "#0f6156", "#7fcfbf"),
    ("link_text_color_hover", "#104e46", "#b0e3d7"),
    ("link_text_color_visited", "#0f6156", "#7fcfbf"),
    ("link_text_color_active", "#0f6156", "#7fcfbf"),
    ("slider_color", "#127566", "#5cc0ae"),
    ("table_border_color", "#e4e0d9", "#333736"),
    ("table_even_background_fill", "#ffffff", "#1e2120"),
    ("table_odd_background_fill", "#fbfaf8", "#1a1d1c"),
    ("loader_color", "#127566", "#5cc0ae"),
)

#: What is the same in both.
_SHAPE = {
    "block_shadow": "none",
    "block_border_width": "0px",
    "block_padding": "0px",
    "block_title_text_weight": "500",
    "block_title_text_size": "*text_md",
    "block_info_text_size": "*text_sm",
    "block_label_text_size": "*text_sm",
    "button_transition": "background-color 0.12s ease, border-color 0.12s ease",
    "button_primary_shadow": "none",
    "button_secondary_shadow": "none",
    "button_large_text_weight": "500",
    "button_large_text_size": "*text_md",
    "button_large_padding": "8px 16px",
    "button_small_padding": "4px 12px",
    "button_small_text_weight": "500",
    "button_border_width": "1px",
    "checkbox_label_shadow": "none",
    "checkbox_label_padding": "8px 12px",
    "chatbot_text_size": "*text_lg",
    "form_gap_width": "0px",
    "input_border_width": "1px",
    "input_padding": "8px 12px",
    "input_shadow": "none",
    "input_shadow_focus": "none",
    "input_text_size": "*text_md",
    "layout_gap": "12px",
    "prose_text_size": "*text_lg",
    "section_header_text_size": "*text_md",
    "section_header_text_weight": "500",
    "shadow_drop": "none",
    "shadow_drop_lg": "0 8px 24px rgb(0 0 0 / 0.14)",
    "error_border_width": "1px",
}  # fmt: skip


#: Colors of the sampler flow chart's bands and of tokens: light, dark. They differ in hue and have the same weight.
_BANDS: tuple[tuple[str, str], ...] = (
    ("#2c9a88", "#3aa593"),
    ("#d3a24c", "#c2964a"),
    ("#6c8ebf", "#6f8fbd"),
    ("#c77b6b", "#bd7869"),
    ("#8fa65a", "#8a9f5b"),
    ("#9b82b8", "#957fb0"),
    ("#57a7bd", "#5a9fb3"),
    ("#b88a6a", "#ad8468"),
    ("#8a8f98", "#848992"),
)

#: Colors of code by the kind of word: light, dark. Each has a contrast of 4.5 or more on the ground of code.
_CODE: dict[str, tuple[str, str]] = {
    "keyword": ("#00567d", "#c792ea"),
    "string": ("#436600", "#a5cf7e"),
    "name": ("#b0203f", "#7fb8f0"),
    "value": ("#860049", "#e0a46c"),
    "sign": ("#7a4d1c", "#7cc5cf"),
    "comment": ("#545f6e", "#a3adbb"),
}


def make_theme() -> gr.themes.Base:
    """The theme, for launch()."""
    base = gr.themes.Base(
        primary_hue=_TEAL,
        secondary_hue=_TEAL,
        neutral_hue=_STONE,
        text_size=_TEXT,
        spacing_size=_SPACE,
        radius_size=_CORNERS,
        font=_SANS,
        font_mono=_MONO,
    )
    colours = {name: light for name, light, _ in _COLOURS}
    colours.update({f"{name}_dark": dark for name, _, dark in _COLOURS})
    return base.set(**_SHAPE, **colours)


def frame_style() -> str:
    """The look of a document in a frame: the ground and text of the page, whose color scheme editors.js gives it."""
    colours = {name: f"light-dark({light}, {dark})" for name, light, dark in _COLOURS}
    return (
        f":root {{ color-scheme: light; background: {colours['background_fill_primary']}; "
        f"color: {colours['body_text_color']} }} a {{ color: {colours['link_text_color']} }} "
        f"body {{ font: 16px/1.6 {', '.join(_SANS)}; max-width: 68ch; margin: 16px; overflow-wrap: anywhere }} "
        f"pre, code {{ font-family: {', '.join(_MONO)}; font-size: 14px }} img {{ max-width: 100% }} "
        f"table {{ border-collapse: collapse }} "
        f":is(th, td) {{ padding: 4px 12px; border: 1px solid {colours['border_color_primary']}; text-align: left }}"
    )


def page_head(texts: Texts, *, dark: bool) -> str:
    """The page's head: style, script and the script's texts. `dark` is the default of a browser without a choice."""
    ground = {name: (light, night) for name, light, night in _COLOURS}["body_background_fill"]
    first = f"html, body {{ background: {ground[0]}; }} html.dark, html.dark body {{ background: {ground[1]}; }}"
    for place, mark in ((0, "html"), (1, "html.dark, html.dark body")):
        bands = "; ".join(f"--band-{at}: {pair[place]}" for at, pair in enumerate(_BANDS))
        code = "; ".join(f"--code-{kind}: {pair[place]}" for kind, pair in _CODE.items())
        first += f" {mark} {{ {bands}; {code}; }}"
    words = {"language": texts.code, "tips": texts.section("tip"), **texts.section("script")}
    said = json.dumps(words, ensure_ascii=False).replace("<", "\\u003c")
    scripts = "\n".join(map(_file, _SCRIPTS))
    script = f"const START_DARK = {json.dumps(dark)};\nconst TEXTS = {said};\n{scripts}"
    sheets = "\n".join(map(_file, ("style.css", "chat_styles.css", "session.css", "chats.css", "hub.css")))
    return f"<script>{script}</script><style>{first}\n{sheets}</style>"


@cache
def _file(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
