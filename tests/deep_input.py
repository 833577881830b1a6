"""Passes deeply nested input to one parser after the other, and prints each result. Run as a program by its test.

A reader that recurses in C ends the process: so this is one of its own.
"""

from __future__ import annotations

import base64
import io
import json
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from errors import UserError
from loaders import gbnf, safe_json
from loaders.exllamav2 import folder as exllama_folder
from loaders.huggingface import folder as hf_folder
from loaders.list_parsing import parse_quoted_strings
from loaders.llamacpp.gguf import read_header
from modules.chat.characters import Characters
from modules.chat.formats import character_cards, conversation_file, import_export
from modules.chat.store.journal import read_journal
from modules.config.paths import Paths
from modules.config.settings import Settings
from modules.config.yaml_file import parse_mapping
from modules.library.hf_folder import read_folder
from modules.library.last_model import LastModelFile
from modules.library.model_settings import ModelSettings
from modules.prompts.drafts import Drafts
from modules.prompts.json_schema.text import schema_grammar
from modules.prompts.presets import Presets
from modules.prompts.sandbox.sandbox import Sandbox
from modules.prompts.templates import Templates
from modules.training.data.chats import read_tools
from modules.training.data.datasets import read_rows
from modules.training.data.formats import RowFormats
from modules.training.lora.settings import LoraSettings

N = 100_000

JSON = {
    "lists": "[" * N + "]" * N,
    "objects": '{"a":' * N + "1" + "}" * N,
    "half": '{"a":[' * N,
    "some": "[" * 500 + "]" * 500,
}
YAML = {
    "lists": "a: " + "[" * N + "]" * N,
    "maps": "a: " + "{a: " * N + "}" * N,
    "half": "a: " + "[" * N,
    "dashes": "a:\n" + "- " * N,
    "keys": "? " * N,
    "indent": "".join(f"{' ' * each}a:\n" for each in range(2000)),
    "some": "a: " + "[" * 500 + "]" * 500,
    "merges": "a0: &a0 {x: 1}\n"
    + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}\n" for i in range(1, 12)),
    "aliases": "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)),
    "itself": "a: &a [*a]",
    "number": "a: 0x" + "f" * N,
    "sixties": "a: 1" + ":1" * N,
    "digits": "a: " + "9" * N,
    "tag of truth": "a: !!bool perhaps",
    "tag of time": "a: !!timestamp never",
    "tag of number": 'a: !!int ""',
    "no key": "? [a, b]\n: c",
}
JINJA = {
    "brackets": "{{ " + "(" * N + "1" + ")" * N + " }}",
    "lists": "{{ " + "[" * 300 + "]" * 300 + " }}",
    "ifs": "{% if 1 %}" * N + "{% endif %}" * N,
    "elifs": "{% if a %}" + "{% elif a %}" * N + "{% endif %}",
    "sums": "{{ 1" + "+1" * N + " }}",
    "nots": "{{ " + "not " * N + "1 }}",
    "filters": "{{ 1" + "|string" * N + " }}",
    "calls": "{{ a" + "()" * N + " }}",
    "macros": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
}


def png(keyword: str, text: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text(keyword, base64.b64encode(text.encode()).decode())
    made = io.BytesIO()
    Image.new("RGB", (2, 2)).save(made, "PNG", pnginfo=info)
    return made.getvalue()


def gguf() -> bytes:
    key = b"general.tags"
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", len(key)) + key + struct.pack("<I", 9)
    return head + struct.pack("<IQ", 9, 1) * N + struct.pack("<IQ", 4, 0)


def rows() -> dict[str, Callable[[], Any]]:
    """Each parser with its input. One that returns a value instead of an error says so in its row."""
    root = Path(tempfile.mkdtemp(prefix="deep-"))
    paths = Paths.under(root)
    paths.ensure()
    found: dict[str, Callable[[], Any]] = {}

    def put(folder: Path, name: str, text: str) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
        return folder / name

    for name, text in YAML.items():
        found[f"yaml {name}"] = lambda text=text: parse_mapping(text, Path("x.yaml"))
        put(paths.presets, f"{name}.yaml", text)
        found[f"preset {name}"] = lambda name=name: Presets(paths).load(name)
        put(paths.instruction_templates, f"{name}.yaml", text)
        found[f"template file {name}"] = lambda name=name: Templates(paths, lambda _: []).load(name)
        put(paths.characters, f"{name}.yaml", text)
        found[f"character file {name}"] = lambda name=name: Characters(paths).load(name)
        found[f"character brought {name}"] = lambda text=text: Characters(paths).import_card(
            ("name: x\n" + text).encode(), "x.yaml"
        )
        file = put(root, f"{name}.settings.yaml", text)
        found[f"settings {name}"] = lambda file=file: Settings.read(file)
    put(paths.models, "config-user.yaml", YAML["lists"])
    found["model settings, passed over"] = lambda: ModelSettings(paths).options_for("x.gguf", "llama.cpp")[0] == {}
    for name, text in JSON.items():
        held = f'{{"name": "x", "greeting": "hi", "data": {{"name": "x", "more": {text}}}}}'
        found[f"json {name}"] = lambda text=text: safe_json.loads(text)
        found[f"json first {name}"] = lambda text=text: safe_json.decode_first(text)
        found[f"chat {name}"] = lambda text=text: conversation_file.parse_conversation("x", text, 0.0)
        found[f"chat texts, none {name}"] = lambda text=text: conversation_file.conversation_texts(text) == []
        found[f"chat exchange {name}"] = lambda text=text: import_export.import_chat("x", '{"user_name": "a"}\n' + text)
        found[f"schema {name}"] = lambda text=text: schema_grammar(text)
        found[f"card {name}"] = lambda held=held: character_cards.read_card(held.encode())
        found[f"card in a picture {name}"] = lambda held=held: character_cards.read_card(png("chara", held))
        found[f"new card in a picture {name}"] = lambda held=held: character_cards.read_card(png("ccv3", held))
        put(paths.characters, f"j{name}.json", held)
        found[f"character json {name}"] = lambda name=name: Characters(paths).load(f"j{name}")
        put(paths.logs / "drafts", f"{name}.json", text)
        found[f"draft {name}"] = lambda name=name: Drafts(paths.logs / "drafts").open(name)
        put(root / "formats", f"{name}.json", text)
        found[f"format {name}"] = lambda name=name: RowFormats(root / "formats").load(name)
        file = put(root, f"{name}.rows.json", text)
        found[f"rows {name}"] = lambda file=file: read_rows(file)
        lines = put(root, f"{name}.rows.jsonl", text)
        found[f"rows by line {name}"] = lambda lines=lines: read_rows(lines)
        found[f"tools of a row {name}"] = lambda text=text: read_tools({"tools": text})
        found[f"LoRA parameters {name}"] = lambda text=text: LoraSettings.from_json(text, "x")
        model = root / "hf" / name
        put(model, "config.json", text)
        found[f"model folder, a problem {name}"] = lambda model=model: bool(read_folder(model).problem)
        found[f"Transformers folder {name}"] = lambda model=model: hf_folder.read_folder(model)
        found[f"ExLlamaV2 folder {name}"] = lambda model=model: exllama_folder.read_folder(model)
        journal = put(root, f"{name}.journal.json", text)
        found[f"journal, none {name}"] = lambda journal=journal: read_journal(journal) is None
    put(paths.cache, "last_model.json", JSON["objects"])
    found["last model, none"] = lambda: LastModelFile(paths).read().name == ""
    for name, text in JINJA.items():
        found[f"jinja {name}"] = lambda text=text: Sandbox().render("x", text, {})
        found[f"jinja's variables, any {name}"] = lambda text=text: Sandbox().variables(text) is not None
    for sign in ("-", "not ", "[", "(", "lambda:", "1**"):
        found[f"strings {sign}"] = lambda sign=sign: parse_quoted_strings(f"'a',{sign * N}1")
    header = root / "deep.gguf"
    header.write_bytes(gguf())
    found["gguf"] = lambda: read_header(header)
    found["gbnf, a problem"] = lambda: bool(gbnf.check_grammar("root ::= " + "(" * N + '"a"' + ")" * N))
    return found


def said(read: Callable[[], Any]) -> str:
    try:
        value = read()
    except (UserError, conversation_file.InvalidConversation, safe_json.JsonTooDeep, json.JSONDecodeError) as error:
        return f"refused: {str(error)[:300]!a}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]!a}"
    return "as it should be" if value is True else f"taken: {value!a}"[:200]


if __name__ == "__main__":
    skipped = int(sys.argv[1])
    if "--names" in sys.argv:
        print("\n".join(rows()))
        raise SystemExit
    for row, read in list(rows().items())[skipped:]:
        print(f"{row}\t", end="", flush=True)
        print(said(read), flush=True)
