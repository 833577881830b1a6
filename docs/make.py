"""Generates the tables and pictures in the documents: tables from the declarations, pictures of the samplers at work.

python docs/make.py             the tables, also those of the flags
python docs/make.py --check     exit code 1 when a table is out of date
python docs/make.py --pictures  the pictures, too; they need the demo model in models/
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from docs.cards import cards_table  # noqa: E402
from docs.measured import measured_lines  # noqa: E402
from docs.model_sizes import models_table  # noqa: E402
from loaders import LOADERS  # noqa: E402
from loaders.params import GROUPS, SamplingParams  # noqa: E402
from loaders.remote.kinds import KINDS  # noqa: E402
from modules.config.atomic import write_text  # noqa: E402
from modules.config.flag_table import render_ignored, render_table  # noqa: E402
from modules.extensions.hooks import HOOKS  # noqa: E402
from modules.training.lora.settings import GROUPS as TRAINING_GROUPS  # noqa: E402
from modules.training.lora.settings import LoraSettings  # noqa: E402

#: A prompt after which many tokens are likely, and the knobs of each picture.
PROMPT = "My favourite animal is the"
PICTURES: Mapping[str, Mapping[str, object]] = {
    "min-p": {"min_p": 0.05},
    "top-k-top-p": {"top_k": 20, "top_p": 0.9},
    "temperature": {"temperature": 0.5, "min_p": 0.02},
    "xtc": {"min_p": 0.02, "xtc_probability": 1.0, "xtc_threshold": 0.02},
}


def hooks_table() -> str:
    """The functions of extensions."""
    rows = [f"| `{hook.name}({', '.join(hook.arguments)})` | {hook.help} |" for hook in HOOKS.values()]
    return "\n".join(["| function | when, and what for |", "| --- | --- |", *rows]) + "\n"


def knobs_table() -> str:
    """The sampling knobs, group by group."""
    lines: list[str] = []
    for group, (title, sentence) in GROUPS.items():
        lines += [f"### {title}", "", sentence, "", "| knob | default | |", "| --- | --- | --- |"]
        for name, knob in SamplingParams.knobs().items():
            if knob.group == group:
                default = "" if knob.default in ("", ()) or isinstance(knob.default, tuple) else f"{knob.default}"
                lines.append(f"| `{name}` | {default} | {_cell(knob.help)} |")
        lines.append("")
    return "\n".join(lines)


def options_table() -> str:
    """The options of each loader."""
    lines: list[str] = []
    for name, loader in LOADERS.items():
        lines += [f"### {name}", "", loader.summary, "", "| option | default | |", "| --- | --- | --- |"]
        for option, knob in loader.Options.knobs().items():
            default = "" if knob.default in ("", ()) else f"{knob.default}"
            lines.append(f"| `{option}` | {default} | {_cell(knob.help)} |")
        lines.append("")
    return "\n".join(lines)


def settings_table() -> str:
    """The choices about a training, group by group."""
    lines: list[str] = []
    for group, title in TRAINING_GROUPS.items():
        lines += [f"### {title}", "", "| choice | flag | default | |", "| --- | --- | --- | --- |"]
        for knob in LoraSettings.knobs().values():
            if knob.group == group:
                default = "" if knob.default == "" else f"`{knob.default}`"
                lines.append(f"| {knob.label} | `{knob.flag}` | {default} | {_cell(knob.help)} |")
        lines.append("")
    return "\n".join(lines)


def servers_table() -> str:
    """What the kinds of servers can do: abilities, and the parameters that not all of them have."""
    kinds = list(KINDS.values())
    missing = [kind.unsupported() for kind in kinds]
    lines = [f"| | {' | '.join(kind.name for kind in kinds)} |", f"| --- |{' --- |' * len(kinds)}"]
    titles = {"tokens": "its tokenizer", "logits": "logits of the next token", "score": "log-probabilities of prompts"}
    rows = [([name], title) for name, title in titles.items()]
    groups: dict[tuple[bool, ...], list[str]] = {}
    for name in SamplingParams.knobs():
        groups.setdefault(tuple(name not in each for each in missing), []).append(name)
    rows += [(names, ", ".join(f"`{name}`" for name in names)) for can, names in groups.items() if not all(can)]
    for names, title in rows:
        cells = ["" if names[0] in each else "yes" for each in missing]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def flags_table() -> str:
    """The command line's flags."""
    return render_table(LOADERS)


def ignored_table() -> str:
    """The flags of the original that have no effect here."""
    return render_ignored(LOADERS)


#: The file, the name of the marker, and the contents.
TABLES: tuple[tuple[str, str, Callable[[], str]], ...] = (
    ("README.md", "models", models_table),
    ("README.md", "measured", measured_lines),
    ("docs/flags.md", "flags", flags_table),
    ("docs/coming-from-the-original.md", "ignored", ignored_table),
    ("docs/getting-started.md", "cards", cards_table),
    ("docs/extensions.md", "hooks", hooks_table),
    ("docs/samplers.md", "knobs", knobs_table),
    ("docs/loader-options.md", "options", options_table),
    ("docs/training.md", "settings", settings_table),
    ("docs/cluster.md", "servers", servers_table),
)


def embed(text: str, place: str, made: str) -> str:
    """The text with this between the place's two marks."""
    begin, end = f"<!-- {place}:begin -->", f"<!-- {place}:end -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"the marks {begin} and {end} are missing")
    return f"{before}{begin}\n{made}{end}{after}"


def main(arguments: list[str]) -> int:
    stale = []
    for name, place, make in TABLES:
        file = ROOT / name
        old = file.read_text(encoding="utf-8")
        new = embed(old, place, make())
        if new != old:
            stale.append(name)
            if "--check" not in arguments:
                write_text(file, new)
    if "--check" in arguments and stale:
        sys.stderr.write(f"out of date: {', '.join(stale)}. Run: python docs/make.py\n")
        return 1
    if "--pictures" in arguments:
        pictures()
    return 0


def pictures() -> None:
    """What each setting does to the next token, drawn as the page draws it."""
    from modules.app import App
    from modules.generation.sampler_trace import trace_samplers
    from modules.ui.editor.sampler_flow import sampler_flow_html
    from modules.ui.theme import _BANDS

    app = App.build(ROOT, ["--threads", "1", "--n-ctx", "512"])
    app.models.load(next(name for name in app.shelf.names() if name.startswith("SmolLM2-135M")), "llama.cpp")
    place = app.generator.session().look(PROMPT, SamplingParams())
    bands = "".join(f".b{at} {{ fill: {light}; }}" for at, (light, _) in enumerate(_BANDS))
    style = (
        "text { font: 12px system-ui, sans-serif; fill: #23211e; } .name { font-size: 13px; font-weight: 500; }"
        ".value, .took { fill: #64615b; } .token-name { font-family: monospace; white-space: pre; }"
        ".band { stroke: #ffffff; stroke-width: 0.6; } .others { fill: #f4f2ee; stroke: #e4e0d9; }"
        f".gate {{ stroke: #23211e; stroke-width: 1.5; stroke-dasharray: 2 3; }} {bands}"
    )
    folder = ROOT / "docs" / "pictures"
    folder.mkdir(exist_ok=True)
    for name, knobs in PICTURES.items():
        html = sampler_flow_html(trace_samplers(place, SamplingParams(**{"temperature": 1.0, **knobs})))  # type: ignore[arg-type]
        found = re.search(r"<svg.*?</svg>", html, re.DOTALL)
        assert found
        svg = found[0].replace("<svg ", "<svg xmlns='http://www.w3.org/2000/svg' ", 1)
        ground = "<rect width='100%' height='100%' fill='#ffffff'/>"
        svg = re.sub(r">", f"><style>{style}</style>{ground}", svg, count=1)
        write_text(folder / f"{name}.svg", svg + "\n")
    app.close()


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
