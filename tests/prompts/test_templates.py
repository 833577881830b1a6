"""Templates: the shipped ones write what their models were trained on; strangers' ones stay in the sandbox."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import BadFile, InvalidName, TemplateFailed, UnknownName
from modules.config.paths import Paths
from modules.prompts.templates import Templates
from tests.fake_engine import FakeModel

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = Templates(Paths.under(ROOT))

CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
]

# written down from each family's own description of its format
GOLDEN = {
    "ChatML": (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
    ),
    "Alpaca": ("Be brief.\n\n### Instruction:\nHi\n\n### Response:\nHello\n\n### Instruction:\nBye\n\n### Response:\n"),
    "Llama-v2": "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello </s><s>[INST] Bye [/INST]",
    "Llama-v3": (
        "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "Mistral": "<s>[INST] Be brief.\n\nHi [/INST] Hello</s>[INST] Bye [/INST]",
    "Vicuna-v1.1": "Be brief. USER: Hi ASSISTANT: Hello</s>USER: Bye ASSISTANT:",
}


@pytest.mark.parametrize("name", SHIPPED.names())
def test_every_shipped_template_writes_its_form(name: str) -> None:
    text = SHIPPED.render(
        SHIPPED.load(name), CONVERSATION, add_generation_prompt=True, bos_token="<s>", eos_token="</s>"
    )
    assert text == GOLDEN[name]


@pytest.fixture
def templates(tmp_path: Path) -> Templates:
    (tmp_path / "instruction-templates").mkdir()
    return Templates(Paths.under(tmp_path))


def test_detected_from_the_model_else_alpaca() -> None:
    assert SHIPPED.detect(FakeModel(chat_template="{{ 1 }}")) == ("{{ 1 }}", "from the GGUF")
    text, reason = SHIPPED.detect(FakeModel())
    assert text == SHIPPED.load("Alpaca")
    assert "no template" in reason


@settings(max_examples=60)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_what_is_saved_is_loaded_again(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    templates = Templates(Paths.under(tmp_path_factory.getbasetemp()))
    templates.save("My Template", text)
    assert templates.load("My Template") == text


def test_a_saved_template_is_readable(templates: Templates, tmp_path: Path) -> None:
    templates.save("Mine", "{% for m in messages %}\n  {{ m.content }}\n\n{% endfor %}")
    written = (tmp_path / "instruction-templates" / "Mine.yaml").read_text()
    assert written == "instruction_template: |-\n  {% for m in messages %}\n    {{ m.content }}\n\n  {% endfor %}\n"


def test_other_forms_of_files(templates: Templates, tmp_path: Path) -> None:
    folder = tmp_path / "instruction-templates"
    (folder / "new.jinja").write_text("{{ messages[0].content }}")
    (folder / "empty.yaml").write_text("something: else\n")
    (folder / "old.yaml").write_text(
        'user: "USER:"\nbot: "ASSISTANT:"\n'
        'turn_template: "<|user|> <|user-message|>\\n<|bot|> <|bot-message|></s>\\n"\n'
        'context: "<|system-message|>\\n\\n"\nsystem_message: "A \\"kind\\" chat."\n'
    )
    assert templates.names() == ["empty", "new", "old"]
    assert templates.render(templates.load("new"), CONVERSATION) == "Be brief."
    old = templates.load("old")
    assert templates.render(old, CONVERSATION[1:], add_generation_prompt=True) == (
        'A "kind" chat.\n\nUSER: Hi\nASSISTANT: Hello</s>\nUSER: Bye\nASSISTANT:'
    )
    assert templates.render(old, CONVERSATION[:2]) == "Be brief.\n\nUSER: Hi\n"
    with pytest.raises(BadFile):
        templates.load("empty")
    with pytest.raises(UnknownName):
        templates.load("odl")
    with pytest.raises(InvalidName):
        templates.load("../old")


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("a\n{% if %}", 2),
        ("a\n\n{{ raise_exception('not like this') }}", 3),
        ("{% for m in messages %}\n{{ m.content.nothing.at.all }}\n{% endfor %}", 2),
        ("\n{{ 1 // 0 }}", 2),
    ],
)
def test_a_template_that_fails_tells_the_line(template: str, line: int) -> None:
    with pytest.raises(TemplateFailed, match=f"in line {line}"):
        SHIPPED.render(template, CONVERSATION)


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='x') }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ 'x' * 10 ** 9 }}",
        "{{ 10 ** (10 ** 9) }}",
        "{{ 10 ** 1000 ** 1000 ** 1000 }}",
        "{{ [0] * 1000000000 }}",
        "{% for i in range(1000000000) %}{% endfor %}",
        "{% include '/etc/passwd' %}",
    ],
)
def test_a_strangers_program_cannot_get_out_or_fill_the_memory(template: str) -> None:
    with pytest.raises(TemplateFailed):
        SHIPPED.render(template, CONVERSATION)


def test_what_published_templates_use_is_there() -> None:
    template = (
        "{{- strftime_now('%Y')|length }} {{ {'a': '<é>'}|tojson }} {% for m in messages %}"
        "{% if loop.index0 == 1 %}{% continue %}{% endif %}{% if loop.index0 == 2 %}{% break %}{% endif %}"
        "{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}{% if tools %}no{% endif %}"
    )
    assert SHIPPED.render(template, CONVERSATION) == '4 {"a": "<é>"} Be brief.'


def test_missing_values_are_empty() -> None:
    assert SHIPPED.render("[{{ bos_token }}{{ never_heard_of }}]", []) == "[]"
