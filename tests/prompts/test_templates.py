"""Templates: the shipped ones write what their models were trained on; untrusted ones stay in the sandbox."""

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
from modules.prompts.sandbox.sandbox import Sandbox
from modules.prompts.template_renderer import TemplateRenderer
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

#: The expected output of each shipped template, written from each family's own description of its format.
GOLDEN = json.loads((Path(__file__).parent / "golden_templates.json").read_text(encoding="utf-8"))
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


@pytest.mark.parametrize("name", SHIPPED.names())
def test_every_shipped_template_writes_its_form(name: str) -> None:
    assert SHIPPED.render(SHIPPED.load(name), CONVERSATION, add_generation_prompt=True, **TOKENS) == GOLDEN[name]


@pytest.mark.parametrize("name", SHIPPED.names())
def test_what_a_model_goes_on_from_is_how_its_answer_is_read_again(name: str) -> None:
    """Otherwise the next turn would need the whole prompt again, and an answer would be read in another form."""
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


#: The system text that a template writes by itself, where its family was trained with one.
SYSTEMS = json.loads((Path(__file__).parent / "default_systems.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", SHIPPED.names())
def test_a_familys_own_system_text_stands_where_no_other_was_given(name: str) -> None:
    template, user = SHIPPED.load(name), [{"role": "user", "content": "\u2021"}]
    alone = SHIPPED.render(template, user, add_generation_prompt=True, **TOKENS)
    assert SYSTEMS.get(name, "") in alone
    assert name in SYSTEMS or len(alone.partition("\u2021")[0]) < 50
    other = SHIPPED.render(template, [{"role": "system", "content": "Be brief."}, *user], **TOKENS)
    assert "Be brief." in other
    assert name not in SYSTEMS or SYSTEMS[name] not in other


@pytest.mark.parametrize("name", SHIPPED.names())
def test_a_reply_stops_where_the_other_side_would_begin(name: str) -> None:
    """All but two, in which nothing stands before a user's message: there only the end token ends a reply."""
    script = TemplateRenderer(SHIPPED.render, SHIPPED.load(name), name, TOKENS)
    assert bool(script.stops(["<s>", "</s>"])) == (name not in ("Galactica Cite", "Galactica Summary"))


FORMS = json.loads((Path(__file__).parent / "original_forms.json").read_text(encoding="utf-8"))


def _original(name: str, *, system: bool) -> str:
    """What the original's template of this name writes for the conversation: system, user, reply, opened reply."""
    before, user, reply, opened = FORMS[name]
    said = user.format("Hi") + reply.format("Hello") + user.format("Bye") + opened
    return (before.format("Be brief.") if system else "") + said


def test_what_differs_from_the_originals_is_told_with_its_reason() -> None:
    """docs/coming-from-the-original.md names every template that writes other turns, and no other."""
    page = (ROOT / "docs" / "coming-from-the-original.md").read_text("utf-8")
    table = page.partition("<!-- templates:begin -->")[2].partition("<!-- templates:end -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.strip().splitlines()[2:]]
    told = [name.strip() for row in rows for name in row[0].split(",")]
    assert all(len(row) == 3 and all(row) for row in rows)
    differing = {
        name
        for name in FORMS
        if SHIPPED.render(SHIPPED.load(name), CONVERSATION, add_generation_prompt=True, **TOKENS)
        != _original(name, system=True)
    }
    assert sorted(told) == sorted(differing)
    assert f"Of the {len(FORMS)} that both have" in page


@pytest.mark.parametrize("name", sorted(FORMS))
def test_the_originals_own_template_counts_where_it_is_copied(tmp_path: Path, name: str) -> None:
    """In the form before Jinja, in which people have them; the same turns come out, whatever ours writes."""
    before, user, reply, _ = FORMS[name]
    (user_name, user_end), (bot_name, bot_end) = user.split("{}"), reply.split("{}")
    values = {
        "user": user_name,
        "bot": bot_name,
        "turn_template": f"<|user|><|user-message|>{user_end}<|bot|><|bot-message|>{bot_end}",
        "context": before.replace("{}", "<|system-message|>"),
        "system_message": "",
    }
    (tmp_path / "instruction-templates").mkdir()
    (tmp_path / "instruction-templates" / f"{name}.yaml").write_text(json.dumps(values), "utf-8")
    text = Templates(Paths.under(tmp_path)).load(name)
    told = SHIPPED.render(text, CONVERSATION[:3], **TOKENS)
    assert told == before.format("Be brief.") + user.format("Hi") + reply.format("Hello")


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
        model.name, model.template_place = name, "the GGUF"
        return templates.detect(model)

    assert detected("x.gguf", "{{ 1 }}") == ("{{ 1 }}", "from the GGUF")
    assert detected("Mistral-7B-Instruct.gguf", "{{ 1 }}") == ("{{ 1 }}", "from the GGUF")
    assert detected("Mistral-7B-Instruct.gguf") == (
        templates.load("Mistral"), "Mistral, matched by name: .*(mistral|mixtral).*instruct"
    )  # fmt: skip
    assert detected("OpenHermes-2.5-Mistral-7B.gguf")[1] == "ChatML, matched by name: .*openhermes.*mistral"
    assert detected("TheBloke_wizard-mega-13B")[1] == "Wizard-Mega, matched by name: .*wizard.*mega"
    text, reason = detected("x.gguf")
    assert text == templates.load("Alpaca")
    assert reason.startswith("Alpaca: the model has no template")
    kept.keep("x.gguf", {"instruction_template": "Metharme"})
    assert detected("x.gguf", "{{ 1 }}") == (
        templates.load("Metharme"), "saved for this model in config-user.yaml"
    )  # fmt: skip
    kept.keep("x.gguf", {"instruction_template": "gone"})
    assert detected("x.gguf", "{{ 1 }}") == ("{{ 1 }}", "from the GGUF; there is no template gone")
    kept.keep("x.gguf", {"instruction_template": "Custom (obtained from model metadata)"})
    assert detected("x.gguf", "{{ 1 }}") == ("{{ 1 }}", "from the GGUF")


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ({"instruction_template_str": "{{ 7 }}"}, "{{ 7 }}"),
        ({"instruction_template_str": "{{ 7 }}", "instruction_template": "ChatML"}, "{{ 7 }}"),
        ({"instruction_template": "ChatML"}, SHIPPED.load("ChatML")),
        ({"instruction_template": "gone"}, SHIPPED.load("Alpaca")),
        ({"instruction_template": "None", "instruction_template_str": ""}, SHIPPED.load("Alpaca")),
    ],
)
def test_the_settings_template_is_for_models_of_which_nothing_is_known(
    tmp_path: Path, start: dict[str, str], expected: str
) -> None:
    """The original's settings.yaml contains the template of whatever model was loaded when it was saved."""
    (tmp_path / "models").mkdir()
    paths = replace(Paths.under(ROOT), models=tmp_path / "models")
    kept = ModelSettings(paths)
    templates = Templates(paths, kept.matches, start)
    assert templates.detect_for("x.gguf", None, "the GGUF")[0] == expected
    assert templates.detect_for("x.gguf", "{{ 1 }}", "the GGUF")[0] == "{{ 1 }}"
    assert templates.detect_for("zephyr-7b", None, "the GGUF")[0] == templates.load("Zephyr")
    kept.keep("x.gguf", {"instruction_template": "Metharme"})
    assert templates.detect_for("x.gguf", None, "the GGUF")[0] == templates.load("Metharme")


def test_every_name_in_the_shipped_patterns_is_a_template() -> None:
    entries = read_mapping(ROOT / "models" / "config.yaml").values()
    names = {each["instruction_template"] for each in entries if "instruction_template" in each}
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
    with pytest.raises(TemplateFailed, match=f"on line {line}"):
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


@pytest.mark.parametrize(
    "expression",
    [
        "'%300000000d' % 1", "'%.300000000f' % 1", "'%*d' % (300000000, 1)", "'%(a)s' * 9999 % {'a': 'x' * 999999}",
        "'x'.ljust(300000000)", "'x'.rjust(300000000)", "'x'.center(300000000)", "'1'.zfill(300000000)",
        "'\t'.expandtabs(300000000)", "'{:300000000}'.format(1)", "'{:{}}'.format(1, 300000000)",
        "('{0}' * 99999).format('x' * 999999)", "'{a:300000000}'.format_map({'a': 1})",
        "(1).to_bytes(300000000, 'big')",
        "('x' * 99999).replace('x', 'y' * 99999)", "('x' * 99999)|replace('x', 'y' * 99999)",
        "('x' * 99999).translate({120: 'y' * 99999})", "('y' * 99999).join(['x'] * 99999)",
        "(['x'] * 99999)|join('y' * 99999)", "range(99999)|join('y' * 99999)", "'x'|center(300000000)",
        "('x\n' * 99999)|indent(99999)", "[[1], [2]]|tojson(indent=300000000)", "'%300000000d'|format(1)",
        "1.5|round(999999999, 'floor')", "lipsum(n=100000)",
        "[['x' * 999999] * 999999]", "([['x' * 999999] * 999999]|string)|length",
        "([['x' * 999999] * 999999]|upper)|length", "(['x' * 999999] * 999999) ~ ''",
        "[['x' * 999999] * 999999]|tojson",
        "(['x'] * 99999)|map('center', 99999)|list", "([[1] * 99999] * 99999)|sum(start=[])", "'a.b '|urlize",
        "('x'.encode() * 9).ljust(300000000)", "strftime_now('%A' * 99999)", "'x'.ljust(width=300000000)",
    ],
)  # fmt: skip
def test_little_does_not_become_much(expression: str) -> None:
    with pytest.raises(TemplateFailed):
        SHIPPED.render("{{ " + expression + " }}", CONVERSATION)
    with pytest.raises(TemplateFailed):
        SHIPPED.render("{% set x = " + expression + " %}{{ x }}", CONVERSATION)


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(99999) %}{{ x }}{% endfor %}",
        "{% set y %}{% for i in range(99999) %}{{ x }}{% endfor %}{% endset %}",
        "{% macro m() %}{% for i in range(99999) %}{{ x }}{% endfor %}{% endmacro %}{% set y = m() %}",
        "{% set n = namespace(x=x) %}{% for i in range(20) %}{% set n.x = n.x + n.x %}{% endfor %}",
        "{% set n = namespace(x=x) %}{% for i in range(20) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{% set n = namespace(x=[x]) %}{% for i in range(30) %}{% set n.x = n.x + n.x %}{% endfor %}",
        "{% set n = namespace(x=[x]) %}{% for i in range(30) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
        "{% set n = namespace(x=3) %}{% for i in range(60) %}{% set n.x = n.x * n.x %}{% endfor %}",
    ],
)
def test_what_a_template_writes_has_an_end(template: str) -> None:
    with pytest.raises(TemplateFailed, match=r"exceed the limit|more than 1,000,000 steps|more than 256 MB"):
        SHIPPED.render(template, CONVERSATION, x="x" * 100_000)


def test_growing_again_and_again_ends() -> None:
    for step in ("n.x.encode('utf-16').decode('latin-1')", "n.x|tojson", "'%r' % [n.x]", "n.x.replace('x', 'xx')"):
        template = "{% set n = namespace(x='x\\\\') %}{% for i in range(60) %}{% set n.x = " + step + " %}{% endfor %}"
        with pytest.raises(TemplateFailed, match="exceed the limit"):
            SHIPPED.render(template, CONVERSATION)


def test_nothing_is_computed_while_a_template_is_compiled() -> None:
    """Constants would be kept in the program, as often as they are written."""
    source = "{% if false %}" + "{{ 'x'|center(999999) }}{% set x = 'x'|center(999999) %}" * 20 + "{% endif %}ok"
    assert len(Sandbox()._environment.compile(source, raw=True)) < 20_000
    assert SHIPPED.render(source, CONVERSATION) == "ok"


def test_what_templates_do_with_texts_still_works() -> None:
    for template, text in (
        (
            "{{ 'On 20240101: %05.1f%%, %s, %(a)s' % {'a': 1} if false else '%05.1f%% on 20240101' % 2 }}",
            "002.0% on 20240101",
        ),
        ("{{ '{:>4}|{b}'.format(1, b=[2]) }}", "   1|[2]"),
        ("{{ '{a}'.format_map({'a': 1}) }}", "1"),
        ("{{ ['a', 'b']|map('upper')|join(', ') }}{{ ', '.join(['a', 'b']) }}", "A, Ba, b"),
        ("{{ messages|map(attribute='role')|join('|') }}", "system|user|assistant|user"),
        ("{{ 'a\nb'|indent(2) }}{{ 'aXb'|replace('X', '-') }}{{ 'aXb'.replace('X', '+') }}", "a\n  ba-ba+b"),
        ("{{ {'a': [1]}|tojson(indent=2) }}", '{\n  "a": [\n    1\n  ]\n}'),
        ("{{ [1, 2]|sum }}{{ 1 ~ 'a' ~ nothing ~ none }}{{ [1] + [2] }}{{ 7 % 4 }}", "31aNone[1, 2]3"),
        (
            "{{ 'x'.center(5) }}{{ 'x'|center(3) }}{{ '%s'|format('y') }}{{ nothing|join }}{{ (1, 2)|list }}",
            "  x   x y[1, 2]",
        ),
    ):
        assert SHIPPED.render(template, CONVERSATION) == text


def test_values_may_have_any_name() -> None:
    values = {"name": 1, "template": 2, "messages": 3, "self": 4}
    assert SHIPPED.render_with("{{ name }}{{ template }}{{ messages|length }}", CONVERSATION, values) == "124"
    assert SHIPPED.asks_for("{{ name }}{% set x = 1 %}{{ x }}") == {"name"}


def test_what_published_templates_use_is_there() -> None:
    template = (
        "{{- strftime_now('%Y')|length }} {{ {'a': '<é>'}|tojson }} {% for m in messages %}"
        "{% if loop.index0 == 1 %}{% continue %}{% endif %}{% if loop.index0 == 2 %}{% break %}{% endif %}"
        "{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}{% if tools %}no{% endif %}"
    )
    assert SHIPPED.render(template, CONVERSATION) == '4 {"a": "<é>"} Be brief.'


def test_missing_values_are_empty() -> None:
    assert SHIPPED.render("[{{ bos_token }}{{ never_heard_of }}]", []) == "[]"
