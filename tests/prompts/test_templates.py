"""Templates: the shipped ones write what their models were trained on; strangers' ones stay in the sandbox."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import BadFile, InvalidName, TemplateFailed, UnknownName
from modules.config.paths import Paths
from modules.config.yaml_file import read_mapping
from modules.library.model_settings import ModelSettings
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

#: What each shipped template makes of it, written down from each family's own description of its format.
GOLDEN = json.loads((Path(__file__).parent / "golden_templates.json").read_text(encoding="utf-8"))
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


@pytest.mark.parametrize("name", SHIPPED.names())
def test_every_shipped_template_writes_its_form(name: str) -> None:
    assert SHIPPED.render(SHIPPED.load(name), CONVERSATION, add_generation_prompt=True, **TOKENS) == GOLDEN[name]


@pytest.mark.parametrize("name", SHIPPED.names())
def test_what_a_model_goes_on_from_is_how_its_answer_is_read_again(name: str) -> None:
    """Else the next turn would pay for the whole prompt, and an answer would be read in another form."""
    template = SHIPPED.load(name)
    asked = SHIPPED.render(template, CONVERSATION, add_generation_prompt=True, **TOKENS)
    answered = SHIPPED.render(template, [*CONVERSATION, {"role": "assistant", "content": "Goodbye"}], **TOKENS)
    assert answered.startswith(asked)
    assert answered[len(asked) :].lstrip(" ").startswith("Goodbye")


@pytest.mark.parametrize("name", SHIPPED.names())
def test_without_a_system_message_only_what_the_family_says_by_itself_is_before(name: str) -> None:
    text = SHIPPED.render(SHIPPED.load(name), CONVERSATION[1:], add_generation_prompt=True, **TOKENS)
    assert "Be brief" not in text
    assert "None" not in text
    assert text.endswith(GOLDEN[name][GOLDEN[name].index("Hi") :])


def test_the_names_that_settings_of_the_original_use_are_there() -> None:
    names = """Airoboros-v1.2, Alpaca, Bactrian, Baichuan Chat, Baize, Bluemoon, ChatGLM, ChatML, Chinese-Vicuna-Chat,
        Galactica, Galactica Cite, Galactica Finetuned, Galactica Q, Galactica Summary, Galactica Work, Galactica v2,
        Gorilla, Guanaco non-chat, Guanaco-QLoRA, H2O-prompt_answer, Hippogriff, INCITE-Chat, INCITE-Instruct,
        KoAlpaca, Koala, LLaVA, Llama-v2, Llama-v3, MOSS, Manticore Chat, Metharme, Mistral, NewHope, Open Assistant,
        OpenBuddy, OpenChat, OpenOrca-Platypus2, Orca Mini, Orca-Vicuna, RWKV-Raven, Samantha, StableBeluga2, StableLM,
        StableVicuna, Starchat-Beta, Synthia, Synthia-CoT, Tulu, Vicuna-v0, Vicuna-v1.1, Vigogne-Chat,
        Vigogne-Instruct, Wizard-Mega, Wizard-Mega ShareGPT, Ziya"""
    assert {name.strip() for name in names.split(",")} <= set(SHIPPED.names())
    assert set(GOLDEN) == set(SHIPPED.names())


def test_thinking_is_switched_and_tools_are_written() -> None:
    template = SHIPPED.load("ChatML-Thinking")
    assert SHIPPED.switches(template) == {"enable_thinking"}
    assert SHIPPED.switches(SHIPPED.load("ChatML")) == SHIPPED.switches("{% broken") == frozenset()
    asked = [{"role": "user", "content": "How warm is it?"}]
    on = SHIPPED.render(template, asked, add_generation_prompt=True, enable_thinking=True)
    assert SHIPPED.render(template, asked, add_generation_prompt=True, enable_thinking=False) == (
        on + "<think>\n\n</think>\n\n"
    )
    called = {"role": "assistant", "content": "<think>I look.</think>I look.", "tool_calls": [
        {"function": {"name": "look", "arguments": {"at": "thermometer"}}}]}  # fmt: skip
    results = [{"role": "tool", "content": "20"}, {"role": "tool", "content": "21"}]
    text = SHIPPED.render(template, [*asked, called, *results], tools=[{"name": "look"}], add_generation_prompt=True)
    assert '<tools>\n{"name": "look"}\n</tools>' in text
    assert (
        "<|im_start|>assistant\nI look.\n"
        '<tool_call>\n{"name": "look", "arguments": {"at": "thermometer"}}\n</tool_call>'
        "<|im_end|>\n<|im_start|>user\n<tool_response>\n20\n</tool_response>\n<tool_response>\n21\n</tool_response>"
        "<|im_end|>\n<|im_start|>assistant\n"
    ) in text


@pytest.fixture
def templates(tmp_path: Path) -> Templates:
    (tmp_path / "instruction-templates").mkdir()
    return Templates(Paths.under(tmp_path))


def test_detected_in_the_stated_order(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    paths = replace(Paths.under(ROOT), models=tmp_path / "models")  # the shipped names, and no user's settings yet
    kept = ModelSettings(paths)
    templates = Templates(paths, kept.matches)

    def detected(name: str, own: str | None = None) -> tuple[str, str]:
        model = FakeModel(chat_template=own)
        model.name, model.loader = name, "llama.cpp"
        return templates.detect(model)

    assert detected("x.gguf", "{{ 1 }}") == ("{{ 1 }}", "from the GGUF")
    assert detected("Mistral-7B-Instruct.gguf", "{{ 1 }}") == ("{{ 1 }}", "from the GGUF")
    assert detected("Mistral-7B-Instruct.gguf") == (
        templates.load("Mistral"), "Mistral, by name: .*(mistral|mixtral).*instruct"
    )  # fmt: skip
    assert detected("OpenHermes-2.5-Mistral-7B.gguf")[1] == "ChatML, by name: .*openhermes.*mistral"
    assert detected("TheBloke_wizard-mega-13B")[1] == "Wizard-Mega, by name: .*wizard.*mega"
    text, reason = detected("x.gguf")
    assert text == templates.load("Alpaca")
    assert reason.startswith("Alpaca: no template in the model")
    kept.keep("x.gguf", {"instruction_template": "Metharme"})
    assert detected("x.gguf", "{{ 1 }}") == (
        templates.load("Metharme"), "kept for this model in config-user.yaml"
    )  # fmt: skip
    kept.keep("x.gguf", {"instruction_template": "gone"})
    assert detected("x.gguf", "{{ 1 }}") == ("{{ 1 }}", "from the GGUF; there is no template gone")
    kept.keep("x.gguf", {"instruction_template": "Custom (obtained from model metadata)"})
    assert detected("x.gguf", "{{ 1 }}") == ("{{ 1 }}", "from the GGUF")


def test_every_name_in_the_shipped_patterns_is_a_template() -> None:
    names = {each["instruction_template"] for each in read_mapping(ROOT / "models" / "config.yaml").values()}
    assert names <= set(SHIPPED.names())


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
