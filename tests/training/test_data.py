"""Training data: formats, rows, chats and raw texts as token ids with their loss mask."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import BadFile, InvalidInput, TemplateFailed, UnknownName
from loaders.hf_common.tokenizer import FolderTokenizer
from modules.training.data.blocks import BlockCut, cut_blocks
from modules.training.data.chats import MarkedText, mark_chat, read_messages, read_tools
from modules.training.data.datasets import Datasets, read_rows
from modules.training.data.examples import IGNORED, encode_example, examples_from_rows, examples_from_text
from modules.training.data.formats import RowFormat, RowFormats, RowUnfit
from modules.training.lora.settings import LoraSettings

ROOT = Path(__file__).resolve().parents[2]
FORMATS = RowFormats(ROOT / "training" / "formats")
SETTINGS = LoraSettings(add_eos_token=False)


def chatml(said: Sequence[dict[str, Any]], reply: bool, _tools: Any = None) -> str:
    written = "".join(f"<|im_start|>{each['role']}\n{each['content']}<|im_end|>\n" for each in said)
    return written + ("<|im_start|>assistant\n" if reply else "")


def forgetful(said: Sequence[dict[str, Any]], reply: bool, _tools: Any = None) -> str:
    """As Qwen3's template: what was thought in earlier turns is left out."""
    last = len(said) - 1
    kept = [
        {**each, "content": each["content"] if place == last else each["content"].rpartition("</think>")[2]}
        for place, each in enumerate(said)
    ]
    return chatml(kept, reply)


@pytest.fixture(scope="module")
def tokenizer(hf_folder: Path) -> FolderTokenizer:
    return FolderTokenizer(hf_folder, 0)


# --- formats ---


def test_the_shipped_formats_write_rows() -> None:
    assert FORMATS.names() == ["alpaca-chatbot-format", "alpaca-format", "vicuna-format"]
    row = {"instruction": "Add.", "input": "1 and 2", "output": "3 %input%", "id": ""}
    assert FORMATS.load("alpaca-chatbot-format").text(row) == "User: Add.: 1 and 2\nAssistant: 3 %input%"
    assert (
        FORMATS.load("alpaca-format")
        .text({**row, "input": " "})
        .endswith("### Instruction:\nAdd.\n\n### Response:\n3 %input%")
    )
    spaced = RowFormat("mine", {frozenset({"my key", "100%"}): "%my key% costs %100%%"})
    assert spaced.text({"my key": "tea", "100%": "all"}) == "tea costs all"
    with pytest.raises(RowUnfit, match="has instruction, but vicuna-format requires instruction, output or input"):
        FORMATS.load("vicuna-format").text({"instruction": "Add."})
    with pytest.raises(UnknownName, match="Did you mean alpaca-format"):
        FORMATS.load("alpaka-format")


@pytest.mark.parametrize("text", ["[]", "{}", '{"a": 1}', "nothing"])
def test_a_file_that_is_no_format_is_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.json").write_text(text)
    with pytest.raises(BadFile):
        RowFormats(tmp_path).load("mine")


# --- rows ---


@pytest.mark.parametrize(
    ("name", "text", "count"),
    [
        ("a.json", '[{"text": "1"}, {"text": "2"}]', 2),
        ("a.jsonl", '{"text": "1"}\n\n{"text": "2"}\n', 2),
        ("a.json", '{"text": "1"}\n{"text": "2"}', 2),
        ("a.json", '{"version": 1, "data": [{"text": "1"}]}', 1),
        ("a.json", '\ufeff[{"text": "1"}]', 1),
        ("a.json", '{"messages": [{"role": "user"}, {"role": "assistant"}]}', 1),
        ("a.json", '{"instruction": "x", "input": ["a", "b"]}', 1),
    ],
)
def test_rows_are_read_in_the_forms_that_people_have(tmp_path: Path, name: str, text: str, count: int) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    assert len(Datasets(tmp_path).load("a")) == count


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[]", "has no rows"),
        (b"", "not valid JSON"),
        (b'[{"a": 1}, 2]', "row 2 is a int, not an object"),
        (b'"words"', "not a list"),
        (b"\xff\xfe", "UTF-8"),
        (b'{"a": 1}\n{"b": ', "line 2 is not valid JSON"),
    ],
)
def test_what_cannot_be_read_says_where(tmp_path: Path, text: bytes, words: str) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(text)
    with pytest.raises(InvalidInput, match=words):
        read_rows(file)


def test_a_data_set_is_taken_in_only_when_it_can_be_read(tmp_path: Path) -> None:
    rows = Datasets(tmp_path / "datasets")
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.json"
    good.write_text('{"text": "x"}')
    bad.write_text("[")
    assert rows.add(good) == "good"
    with pytest.raises(BadFile):
        rows.add(bad)
    assert rows.names() == ["good"]
    # what is there stays; the same file again is the same data set
    other = tmp_path / "else" / "good.JSON"
    other.parent.mkdir()
    other.write_text('[{"text": "y"}]')
    assert (rows.add(good), rows.add(other), rows.add(other)) == ("good", "good-2", "good-2")
    assert [rows.load(name) for name in rows.names()] == [[{"text": "x"}], [{"text": "y"}]]


# --- chats ---


def test_only_the_assistants_turns_are_learned() -> None:
    said = read_messages({"messages": [
        {"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "More"},
        {"role": "assistant", "content": [{"type": "text", "text": "Yes"}]},
    ]})  # fmt: skip
    (one,) = mark_chat(said, chatml)
    assert [one.text[begin:end] for begin, end in one.spans] == ["Hello<|im_end|>\n", "Yes<|im_end|>\n"]


def test_sharegpt_is_understood() -> None:
    row = {"system": "S", "conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}
    assert [(each["role"], each["content"]) for each in read_messages(row)] == [
        ("system", "S"), ("user", "Q"), ("assistant", "A"),
    ]  # fmt: skip


def test_a_template_that_forgets_thoughts_makes_a_text_of_each_turn() -> None:
    said = [
        {"role": "user", "content": "1"}, {"role": "assistant", "content": "<think>a</think>A"},
        {"role": "user", "content": "2"}, {"role": "assistant", "content": "<think>b</think>B"},
    ]  # fmt: skip
    found = mark_chat(said, forgetful)
    learned = [one.text[begin:end] for one in found for begin, end in one.spans]
    assert learned == ["<think>a</think>A<|im_end|>\n", "<think>b</think>B<|im_end|>\n"]
    assert "<think>a" not in found[1].text


def with_default_system(said: Sequence[dict[str, Any]], reply: bool, _tools: Any = None) -> str:
    """As the demo model's template: it brings a system prompt of its own, but not for an empty chat."""
    first = [{"role": "system", "content": "You are kind."}] if said and said[0]["role"] != "system" else []
    return chatml([*first, *said], reply)


def thinking(said: Sequence[dict[str, Any]], reply: bool, _tools: Any = None) -> str:
    """As DeepSeek R1's: a reply begins with a thought that is not there afterwards; nothing without a message."""
    if not said:
        raise TemplateFailed("thinking", "no messages")
    written = "".join(f"<{each['role']}>{each['content'].rpartition('</think>')[2]}<end>" for each in said)
    return written + ("<assistant><think>\n" if reply else "")


@pytest.mark.parametrize(
    ("write", "learned"),
    [(with_default_system, "Hi<|im_end|>\n"), (chatml, "Hi<|im_end|>\n"), (thinking, "Hi<end>")],
)
@pytest.mark.parametrize("before", [[], [{"role": "user", "content": "Q"}]])
def test_no_header_is_learned(write: Any, learned: str, before: list[Any]) -> None:
    (one,) = mark_chat([*before, {"role": "assistant", "content": "Hi"}], write)
    assert [one.text[begin:end] for begin, end in one.spans] == [learned]


def test_tools_reach_the_template() -> None:
    row = {
        "tools": '[{"type": "function", "function": {"name": "look"}}]',
        "messages": [
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "look"}}]},
            {"role": "tool", "content": "seen", "tool_call_id": "1"},
            {"role": "assistant", "content": "I saw it."},
        ],
    }
    seen: list[Any] = []

    def write(said: Sequence[dict[str, Any]], reply: bool, tools: Any) -> str:
        seen.append((tools, [each.get("tool_call_id") for each in said]))
        return chatml(said, reply)

    mark_chat(read_messages(row), write, read_tools(row))
    assert ([{"type": "function", "function": {"name": "look"}}], [None, "1", None]) in seen
    assert read_tools({}) is None
    with pytest.raises(RowUnfit, match="tools that are not valid JSON"):
        read_tools({"tools": "["})


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        ([{"role": "user", "content": "x"}], "no assistant message"),
        ([{"role": "alien", "content": "x"}], "unknown role alien"),
        ([{"content": "x"}], "unknown role none"),
        (["x"], "message 1 that is not an object"),
        ([{"role": "assistant", "content": None}], "without content"),
    ],
)
def test_a_chat_that_does_not_fit_says_why(turns: list[Any], words: str) -> None:
    with pytest.raises(RowUnfit, match=words):
        read_messages({"messages": turns})


# --- raw text ---

words = st.text(st.sampled_from("ab \n"), max_size=300)


def characters(piece: str) -> tuple[list[int], list[tuple[int, int]]]:
    """A tokenizer whose ids are the places of the characters."""
    return list(range(len(piece))), [(at, at + 1) for at in range(len(piece))]


@given(words, st.integers(2, 40), st.integers(0, 60), st.data())
def test_blocks_hold_every_token_in_order(text: str, length: int, newline: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, length - 1))
    found = list(cut_blocks(text, BlockCut(length, overlap, newline, "", 0), characters))
    end = 0
    for number, block in enumerate(found):
        assert 0 < len(block) <= length
        assert list(block) == list(range(block[0], block[-1] + 1))
        assert block[0] <= end, "nothing lies between two blocks"
        assert number == 0 or block[0] > found[number - 1][0]
        end = block[-1] + 1
    whole = text.strip("\n")
    assert end == (len(whole) if whole.strip() else 0)


def test_blocks_begin_and_end_with_lines_and_never_cross_a_hard_cut() -> None:
    text = "one two\nthree four\nfive six\nseven\n\n\nanother piece\n\n\nx"
    cut = BlockCut(length=20, overlap=5, newline=12, hard="\n\n\n", least=4)
    pieces = text.split("\n\n\n")
    found = list(cut_blocks(text, cut, characters))
    shown = [pieces[place][block[0] : block[-1] + 1] for place, block in zip((0, 0, 1), found, strict=True)]
    assert shown == ["one two\nthree four\n", "five six\nseven", "another piece"]
    with pytest.raises(InvalidInput, match="overlap of 20 tokens must be less"):
        list(cut_blocks(text, BlockCut(20, 20, 0, "", 0), characters))


# --- examples ---


@given(st.lists(st.text(st.sampled_from("aé ß\n漢😀"), min_size=1, max_size=8), min_size=2, max_size=6))
def test_labels_follow_the_marked_characters(tokenizer: FolderTokenizer, parts: list[str]) -> None:
    text, spans, at = "", [], 0
    for place, part in enumerate(parts):
        if place % 2:
            spans.append((at, at + len(part)))
        text, at = text + part, at + len(part)
    one = encode_example(MarkedText(text, tuple(spans)), 1, SETTINGS, tokenizer)
    _, places = tokenizer.encode_with_places(text)
    for token, label, (_, end) in zip(one.ids, one.labels, places, strict=True):
        assert label == (token if any(low < end <= high for low, high in spans) else IGNORED)


def test_rows_are_cut_dropped_and_counted(tokenizer: FolderTokenizer) -> None:
    rows = [{"text": "short"}, {"text": "word " * 100}, {"text": "fine words"}]
    settings = SETTINGS.changed(cutoff_len=32, add_eos_token=True, batch_size=2, micro_batch_size=1, warmup_steps=0)
    cut = examples_from_rows(rows, "mine", None, settings, tokenizer, chatml)
    assert (cut.rows, len(cut.examples), cut.cut, cut.longest and cut.longest.row) == (3, 3, 1, 2)
    assert max(len(each.ids) for each in cut.examples) == 32
    assert cut.examples[0].ids[-1] in tokenizer.end_ids
    assert cut.notes(settings) == ["1 of 3 is longer than 32 tokens and cut at the end."]
    dropped = examples_from_rows(rows, "mine", None, settings.changed(excess_length="drop"), tokenizer, chatml)
    assert (len(dropped.examples), dropped.dropped) == (2, 1)


def test_only_what_follows_a_text_is_learned(tokenizer: FolderTokenizer) -> None:
    form = FORMATS.load("alpaca-format")
    settings = SETTINGS.changed(train_only_after="### Response:\\n", cutoff_len=128)
    rows = [{"instruction": "Say yes.", "output": "Yes, gladly."}]
    (one,) = examples_from_rows(rows, "mine", form, settings, tokenizer, chatml).examples
    learned = b"".join(tokenizer.piece(token) for token in one.labels if token != IGNORED)
    assert learned == b"Yes, gladly."
    whole = examples_from_rows(rows, "mine", form, settings.changed(train_only_after="###Nowhere"), tokenizer, chatml)
    assert whole.unmarked == 1
    with pytest.raises(InvalidInput, match="no trained token is within 16 tokens"):
        examples_from_rows(rows, "mine", form, settings.changed(cutoff_len=16), tokenizer, chatml)


@pytest.mark.parametrize(
    ("rows", "form", "said"),
    [
        (
            [{"instruction": "x", "output": "y"}, {"instruction": "x"}],
            "alpaca-format",
            "Row 2 of mine has instruction, but",
        ),
        ([{"q": "x", "a": "y"}], "alpaca-format", "No row of mine matches the format alpaca-format: row 1 has a, q"),
        ([{"q": "x", "a": "y"}], "", "No row of mine can be used: row 1 has a, q"),
        ([{"text": "x"}, {"text": ""}, {"text": "y"}, {}], "", "Row 2 of mine has text.*The same applies to row 4"),
    ],
)
def test_rows_that_do_not_fit_are_named(
    tokenizer: FolderTokenizer, rows: list[dict[str, Any]], form: str, said: str
) -> None:
    kind: RowFormat | None = FORMATS.load(form) if form else None
    with pytest.raises(InvalidInput, match=said):
        examples_from_rows(rows, "mine", kind, SETTINGS, tokenizer, chatml)


def test_a_text_becomes_blocks_of_the_cutoff(tokenizer: FolderTokenizer) -> None:
    text = "The quick brown fox jumps over the lazy dog.\n" * 30
    found = examples_from_text([text], "mine", SETTINGS.changed(cutoff_len=64, overlap_len=16), tokenizer)
    assert all(len(each.ids) <= 64 for each in found.examples)
    assert len(found.examples) >= 300 // 48
    assert all(IGNORED not in each.labels for each in found.examples)


@pytest.mark.parametrize("text", ["👩‍👩‍👧 🦉🪲 " * 200, "長い本文です。\n" * 60])
def test_each_block_of_a_text_ends_with_the_end_token(tokenizer: FolderTokenizer, text: str) -> None:
    """A block that ends inside a character must not grow when it is cut."""
    settings = SETTINGS.changed(cutoff_len=40, overlap_len=0, add_eos_token=True, excess_length="drop")
    found = examples_from_text([text], "mine", settings, tokenizer)
    assert (found.cut, found.dropped) == (0, 0)
    assert all(each.ids[-1] in tokenizer.end_ids for each in found.examples)
    kept = [token for each in found.examples for token in each.ids[:-1]]
    assert kept == tokenizer.encode(text.strip("\n"))


def test_the_end_of_what_the_user_says_is_not_learned(tokenizer: FolderTokenizer) -> None:
    said = [("user", "1"), ("assistant", "A"), ("user", "2")]
    row = {"messages": [{"role": role, "content": content} for role, content in said]}

    def plain(said: Sequence[dict[str, Any]], reply: bool, _tools: Any) -> str:
        return "".join(f"{each['role']}: {each['content']} " for each in said) + ("assistant: " if reply else "")

    settings = SETTINGS.changed(add_eos_token=True, train_only_after="x")
    found = examples_from_rows([row], "mine", None, settings, tokenizer, plain)
    assert found.examples[0].ids[-1] not in tokenizer.end_ids
    learned = b"".join(tokenizer.piece(token) for token in found.examples[0].labels if token != IGNORED)
    assert learned.strip() == b"A"
    assert "Train only after has no effect on chats" in " ".join(found.notes(settings))


def test_a_row_that_no_tokenizer_or_template_takes_is_named(tokenizer: FolderTokenizer) -> None:
    with pytest.raises(InvalidInput, match="Row 2 of mine cannot be used: The text contains an invalid character"):
        examples_from_rows([{"text": "x"}, {"text": "a\ud83d"}], "mine", None, SETTINGS, tokenizer, chatml)

    def strict(said: Sequence[dict[str, Any]], reply: bool, _tools: Any) -> str:
        if said[0]["role"] != "user":
            raise TemplateFailed("of the model", "roles must alternate", 3)
        return chatml(said, reply)

    turns = [[("user", "Q"), ("assistant", "A")], [("system", "S"), ("assistant", "A")]]
    rows = [{"messages": [{"role": role, "content": content} for role, content in each]} for each in turns]
    with pytest.raises(InvalidInput, match="Row 2 of mine cannot be used: The template of the model failed on line 3"):
        examples_from_rows(rows, "mine", None, SETTINGS, tokenizer, strict)


def test_what_is_learned_has_a_fingerprint(tokenizer: FolderTokenizer) -> None:
    rows = [{"instruction": "Say yes.", "output": "Yes."}]
    prints = {
        examples_from_rows(rows, "mine", FORMATS.load(form), settings, tokenizer, chatml).fingerprint()
        for form in ("alpaca-format", "vicuna-format")
        for settings in (SETTINGS, SETTINGS.changed(add_eos_token=True))
    }
    assert len(prints) == 4


# --- settings ---


def test_the_originals_parameters_are_read(tmp_path: Path) -> None:
    file = tmp_path / "training_parameters.json"
    file.write_text(json.dumps({
        "lora_name": "old", "always_override": False, "q_proj_en": True, "k_proj_en": True, "save_steps": 0.0,
        "micro_batch_size": 4, "batch_size": 128, "epochs": 3.0, "learning_rate": "3e-4", "lora_rank": 32,
        "dataset": "alpaca", "eval_dataset": "None", "format": "alpaca-format", "raw_text_file": "None",
        "optimizer": "adamw_hf", "hard_cut_string": "\\n\\n\\n", "report_to": "None", "stop_at_loss": 0,
    }))  # fmt: skip
    read = LoraSettings.read(file)
    assert (read.learning_rate, read.eval_dataset, read.optimizer) == (3e-4, "", "adamw_torch")
    assert read.targets == ("q_proj", "v_proj", "k_proj")
    assert (read.accumulation, read.updates(1000), read.in_updates(100)) == (32, 24, 4)
    for text in ("[]", "{", '{"lora_rank": "many"}'):
        file.write_text(text)
        with pytest.raises(BadFile):
            LoraSettings.read(file)
    for values in ({"learning_rate": "inf"}, {"epochs": "inf"}, {"seed": 2**40}, {"hard_cut_string": "a\ud83d"}):
        with pytest.raises(InvalidInput):
            LoraSettings.parse(values)
    with pytest.raises(InvalidInput, match="No module"):
        assert LoraSettings(q_proj_en=False, v_proj_en=False).targets
