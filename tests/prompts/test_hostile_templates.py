"""A template that would run for hours ends with an error. One process runs the whole table: what hangs in C cannot be
ended from inside.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest

from errors import TemplateFailed
from modules.config.paths import Paths
from modules.prompts.sandbox.budget import STEPS, Budget
from modules.prompts.sandbox.sandbox import Sandbox
from modules.prompts.templates import Templates

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 300  # seconds for all of them together: it only catches hangs

LOOP = "{% for i in range(99999) %}"
#: A list (or tuple) of thirty entries with a billion elements when flattened, and a similar one.
DEEP = (
    "{% set n = namespace(a=OPEN1CLOSE, b=OPEN1CLOSE) %}{% for i in range(40) %}"
    "{% set n.a = OPENn.a, n.aCLOSE %}{% set n.b = OPENn.b, n.bCLOSE %}{% endfor %}"
)
LISTS = DEEP.replace("OPEN", "[").replace("CLOSE", "]")
TUPLES = DEEP.replace("OPEN", "(").replace("CLOSE", ",)").replace("n.a,)", "n.a)").replace("n.b,)", "n.b)")
#: Nested tuples: hashing them needs a deep stack.
CHAIN = (
    "{% set n = namespace(a=()) %}{% for i in range(5000) %}" + "{% set n.a = ({'x': n.a}|dictsort)[0] %}{% endfor %}"
)
#: Everything that is created is kept.
KEPT = (
    "{% set n = namespace(l=(), s=[0] * 999999, d={}.fromkeys(range(99999))) %}"
    + LOOP + "{% set n.l = (n.l, MADE) %}{% endfor %}"
)  # fmt: skip
#: Filters that yield their entries one by one, with their arguments.
LAZY = ["select", "reject('string')", "selectattr('real')", "rejectattr('none')", "map('string')", "unique",
        "list|reverse"]  # fmt: skip
#: What reads them, at the end of the chain.
READING = ["list", "join", "first", "length", "string", "tojson"]

HOSTILE = {
    "nested loops": LOOP + LOOP + "{% endfor %}{% endfor %}",
    "nested loops that are cut": LOOP + LOOP + "{% continue %}{% endfor %}{% endfor %}",
    "nested loops that write": LOOP + LOOP + "{{ i }}{% endfor %}{% endfor %}",
    "loops that leave all out": LOOP + LOOP.replace(" %}", " if false %}") + "{% endfor %}{% endfor %}",
    "loops in a block": "{% block a %}" + LOOP + LOOP + "{% endfor %}{% endfor %}{% endblock %}",
    "a block many times": "{% block a %}{% for i in range(200) %}{% endfor %}{% endblock %}"
    + LOOP + "{% set x = self.a() %}{% endfor %}",
    "macros": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "a macro without end": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "macros in a loop": "{% macro m() %}{% for i in range(999) %}{% endfor %}{% endmacro %}"
    + LOOP + "{% set x = m() %}{% endfor %}",
    "call blocks": "{% macro m(n) %}{% if n %}{% call m(n - 1) %}{% endcall %}{{ m(n - 1) }}{% endif %}"
    "{{ caller() if caller }}{% endmacro %}{{ m(60) }}",
    "callers": "{% macro m() %}" + LOOP + LOOP + "{% set x = caller() %}{% endfor %}{% endfor %}{% endmacro %}"
    "{% call m() %}{% endcall %}",
    "recursive loops": "{% for i in [1, 2] recursive %}{% if loop.depth < 60 %}{{ loop([1, 2]) }}{% endif %}"
    "{% endfor %}",
    "a recursive loop without end": "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "letters of a text": "{% for a in 'x' * 999999 %}{% for b in 'x' * 999999 %}{% endfor %}{% endfor %}",
    "loop.cycle": LOOP + LOOP + "{% set x = loop.cycle(1, 2) %}{% endfor %}{% endfor %}",
    "loop.changed": LISTS + "{% for i in [1, 2] %}{{ loop.changed([n.a, n.b][i - 1]) }}{% endfor %}",
    "cyclers": "{% set c = cycler(1, 2) %}" + LOOP + LOOP + "{% set x = c.next() %}{% endfor %}{% endfor %}",
    "namespaces": "{% set n = namespace(i=0) %}" + LOOP + LOOP + "{% set n.i = n.i + 1 %}{% endfor %}{% endfor %}",
    "set blocks": LOOP + LOOP + "{% set x %}{{ i }}{% endset %}{% endfor %}{% endfor %}",
    "filter blocks": LOOP + LOOP + "{% filter upper %}a{% endfilter %}{% endfor %}{% endfor %}",
    "with": LOOP + LOOP + "{% with a = 1 %}{% endwith %}{% endfor %}{% endfor %}",
    "map": LOOP + "{% set x = range(99999)|map('string')|list %}{% endfor %}",
    "map of maps": "{{ range(99999)" + "|map('string')|map('length')" * 60 + "|list|length }}",
    "select": LOOP + "{% set x = range(99999)|select('odd')|list %}{% endfor %}",
    "select that finds none": LOOP + "{% set x = range(99999)|select('string')|first %}{% endfor %}",
    "selectattr": LOOP + "{% set x = range(99999)|selectattr('a')|list %}{% endfor %}",
    "groupby": LOOP + "{% set x = range(99999)|groupby('a') %}{% endfor %}",
    "sort": LOOP + "{% set x = range(99999)|sort(attribute='a') %}{% endfor %}",
    "sort by a long path": "{{ range(99999)|sort(attribute='a.' * 99999)|length }}",
    "selectattr by a long path": "{{ range(99999)|selectattr('a.' * 99999)|list|length }}",
    "map by a long path": "{{ range(99999)|map(attribute='a.' * 99999)|list|length }}",
    "unique": LOOP + "{% set x = range(99999)|unique|list %}{% endfor %}",
    "list": LOOP + "{% set x = range(99999)|list %}{% endfor %}",
    "reverse": LOOP + "{% set x = range(99999)|list|reverse %}{% endfor %}",
    "max": LOOP + "{% set x = range(99999)|max %}{% endfor %}",
    "join": LOOP + "{% set x = range(9999)|join %}{% endfor %}",
    "slices": "{% set a = [0] * 999999 %}" + LOOP + LOOP + "{% set x = a[1:] %}{% endfor %}{% endfor %}",
    "slices of texts": "{% set a = 'x' * 999999 %}" + LOOP + LOOP + "{% set x = a[1:] %}{% endfor %}{% endfor %}",
    "in": "{% set a = [0] * 999999 %}" + LOOP + LOOP + "{% set x = i in a %}{% endfor %}{% endfor %}",
    "in, a range": LOOP + LOOP + "{% set x = 'a' in range(99999) %}{% endfor %}{% endfor %}",
    "in, a text": "{% set a = 'x' * 999999 %}" + LOOP + LOOP + "{% set x = 'xy' in a %}{% endfor %}{% endfor %}",
    "index": "{% set a = [0] * 999999 %}" + LOOP + LOOP + "{% set x = a.count(1) %}{% endfor %}{% endfor %}",
    "texts are compared": "{% set a = 'x' * 999999 %}{% set b = 'x' * 999998 ~ 'x' %}"
    + LOOP + LOOP + "{% set x = a == b %}{% endfor %}{% endfor %}",
    "lists are compared": LISTS + "{{ n.a == n.b }}",
    "lists are ordered": LISTS + "{{ n.a < n.b }}",
    "lists are looked for": LISTS + "{{ n.a in [0, n.b] }}",
    "a test compares": LISTS + "{{ n.a is eq(n.b) }}",
    "a test compares entries": LISTS + "{{ [n.a]|select('eq', n.b)|list|length }}",
    "a test writes": LISTS + "{{ n.a is upper }}",
    "a method compares": LISTS + "{{ [n.a].index(n.b) }}",
    "a method writes": LISTS + "{{ 'a'.join([n.a|string]) }}",
    "a filter compares": LISTS + "{{ [n.a, n.b]|sort|length }}",
    "views are compared": LISTS + "{{ {'x': n.a}.items() == {'x': n.b}.items() }}",
    "a list is an error": LISTS + "{{ raise_exception(n.a) }}",
    "a namespace is written": LISTS + "{{ n }}",
    "a namespace is written as JSON": LISTS + "{{ n|tojson }}",
    "a namespace is joined": LISTS + "{{ n ~ '' }}",
    "a list as a pattern's value": LISTS + "{{ '%s' % (n.a,) }}",
    "a list in a format": LISTS + "{{ '{}'.format(n.a) }}",
    "tuples as keys": TUPLES + "{{ {n.a: 1}|length }}",
    "tuples as subscripts": TUPLES + "{{ {}[n.a] }}",
    "tuples are got": TUPLES + "{{ {}.get(n.a) }}",
    "tuples are looked for": TUPLES + "{{ n.a in {} }}",
    "tuples are made unique": TUPLES + "{{ [n.a]|unique|list|length }}",
    "a chain of tuples as key": CHAIN + "{{ {n.a: 1}|length }}",
    "a chain of tuples is got": CHAIN + "{{ {}.get(n.a) }}",
    "digits in a pattern": "{{ ('1' * 999999) % 1 }}",
    "stars in a pattern": "{{ ('*' * 999999) % 1 }}",
    "stars and digits in a pattern": "{{ ('*1' * 499999) % 1 }}",
    "points in a pattern": "{{ ('%1.' * 333333) % 1 }}",
    "a pattern in a test": "{{ '%300000000d' is divisibleby(1) }}",
    "stripping": "{{ ('a' * 999999).strip('b' * 999998 ~ 'a') }}",
    "trimming": "{{ ('a' * 999999)|trim('b' * 999998 ~ 'a') }}",
    "searching from the end": "{{ ('a' * 999999).rfind('b' ~ 'a' * 499999) }}",
    "splitting from the end": "{{ ('a' * 999999).rsplit('b' ~ 'a' * 499999) }}",
    "splitting again and again": LOOP + LOOP + "{% set x = ('a ' * 99999).split() %}{% endfor %}{% endfor %}",
    "punycode": "{{ ('\u00fc' * 999999).encode('punycode')|length }}",
    "idna": "{{ ('\u00fc' * 999999).encode('idna')|length }}",
    "names of letters": "{{ ('\u00fc' * 2000000).encode('ascii', 'namereplace')|length }}",
    "long division": "{% set n = 2 ** 900000 %}{{ n // (2 ** 450000 + 1) }}",
    "long division of what is written": "{% set n = 0x" + "f" * 99999 + " %}{{ n // 7 }}",
    "a number of a text": "{{ ('f' * 999999)|int(base=16) is even }}",
    "a number of bytes": "{{ (1).from_bytes('x'.encode() * 999999, 'big') // 3 }}",
    "texts that are kept": "{% set n = namespace(a=[]) %}" + LOOP
    + "{% set n.a = n.a + ['x' * 999999 ~ i] %}{% endfor %}",
    "a method of texts": "{% set a = 'x' * 999999 %}" + LOOP + LOOP + "{% set x = a.upper() %}{% endfor %}{% endfor %}",
    "a chain of lists": KEPT.replace("MADE", "[i] * 999999"),
    "texts in a chain": KEPT.replace("MADE", "'x' * 999999"),
    "texts that grow in a chain": KEPT.replace("MADE", "'x' * 99999 ~ i"),
    "words in a chain": KEPT.replace("MADE", "('ab ' * 300000).split()"),
    "copies in a chain": KEPT.replace("MADE", "n.d.copy()"),
    "keys in a chain": KEPT.replace("MADE", "{}.fromkeys(range(99999))"),
    "slices in a chain": KEPT.replace("MADE", "n.s[1:]"),
    "lists of entries in a chain": KEPT.replace("MADE", "n.s|list"),
    "new entries in a chain": KEPT.replace("MADE", "range(99999)|map('string')|list"),
    "literals in a chain": KEPT.replace("MADE", "[" + "1," * 5000 + "]"),
    "literals in literals in a chain": KEPT.replace("MADE", "[" + "[i]," * 3000 + "]"),
    "dicts in a chain": KEPT.replace("MADE", "[" + "{}," * 3000 + "]"),
    "cyclers in a chain": KEPT.replace("MADE", "cycler(*n.s)"),
    "JSON in a chain": KEPT.replace("MADE", "('x' * 999999)|tojson"),
    "capitals in a chain": KEPT.replace("MADE", "('x' * 999999).upper()"),
    "blocks in a chain": KEPT.replace("(n.l, MADE)", "(n.l, x)").replace(
        "{% set n.l", "{% set x %}{{ 'x' * 999999 }}{{ i }}{% endset %}{% set n.l"),
    "outputs of macros in a chain": "{% macro m(i) %}{{ 'x' * 999999 }}{{ i }}{% endmacro %}"
    + KEPT.replace("MADE", "m(i)"),
    "tags": "{% set a = '<a>' * 333333 %}" + LOOP + "{% set x = a|striptags %}{% endfor %}",
    "include": "{% include 'other' %}",
    "include itself": "{% include self %}",
    "import": "{% import 'other' as o %}",
    "from": "{% from 'other' import o %}",
    "extends": "{% extends 'other' %}",
    "much source": "{{ 1 }}" * 140_000,
    "much text in the source": "x" * 1_000_001,
    "many conditions": "{% if a %}" * 5000 + "{% endif %}" * 5000,
    "many brackets": "{{ " + "(" * 100_000 + ")" * 100_000 + " }}",
    "many lists": "{{ " + "[" * 5000 + "]" * 5000 + " }}",
    "many signs": "{{ " + "-" * 19_000 + "1 }}",
    "many nots": "{{ " + "not " * 19_000 + "1 }}",
    "many filters": "{{ 1" + "|string" * 9000 + " }}",
    "many attributes": "{{ messages" + ".a" * 9000 + " }}",
    "many additions": "{{ 1" + " + 1" * 9000 + " }}",
    "many loops": "{% for i in a %}" * 60 + "{% endfor %}" * 60,
    "an open comment": "{#" * 300_000,
    "an open text": "{{ '" + "\\'" * 300_000,
    "an open block": "{% raw %}" + "{%" * 300_000,
}  # fmt: skip

_RUN = """
import gc, json, sys, time
gc.disable()  # nothing may be left for it
def peak():
    if sys.platform == "win32":
        return 0
    if sys.platform == "linux":  # getrusage would tell the peak of the process that started this one
        status = open("/proc/self/status").read()
        return int(status.split("VmHWM:")[1].split()[0]) // 1024
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
from modules.prompts.sandbox.budget import SECONDS, STEPS
from modules.prompts.sandbox.sandbox import Sandbox
from errors import TemplateFailed
sandbox = Sandbox(steps=STEPS // 10, seconds=SECONDS / 10)
for name, source in json.load(sys.stdin).items():
    print(json.dumps([name, "began"]), flush=True)
    began = time.monotonic()
    try:
        said = "wrote " + repr(sandbox.render("of a stranger", source, {"messages": [{"role": "user"}]})[:99])
    except TemplateFailed as error:
        said = str(error)
    print(json.dumps([name, said, round(time.monotonic() - began, 2), peak()]), flush=True)
"""


@pytest.fixture(scope="module")
def ran() -> list[list[Any]]:
    """The result of each of them. The last one started is the one that hangs or crashes the process."""
    with subprocess.Popen(
        [sys.executable, "-c", _RUN], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            out, _ = child.communicate(json.dumps(HOSTILE), timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
            out, _ = child.communicate()
    lines = [json.loads(line) for line in out.splitlines()]
    for name, what, *numbers in lines:
        if numbers and numbers[0] > 1:
            print(f"{name}: {numbers[0]} s, {what}")
    return lines


@pytest.fixture(scope="module")
def said(ran: list[list[Any]]) -> dict[str, str]:
    return {line[0]: line[1] for line in ran}


@pytest.fixture(scope="module")
def peaks(ran: list[list[Any]]) -> list[int]:
    return [line[3] for line in ran if len(line) > 3]


@pytest.mark.parametrize("name", HOSTILE)
def test_it_ends_with_a_sentence(name: str, said: dict[str, str]) -> None:
    assert said.get(name, "was not reached").startswith("The template of a stranger failed"), said.get(name)


MOST = 700  # MB: a template's 256, and what Python itself takes


@pytest.mark.skipif(sys.platform == "win32", reason="Windows tells no peak here")
def test_none_of_them_fills_the_memory(peaks: list[int]) -> None:
    assert max(peaks) < MOST * (1024 if sys.platform == "darwin" else 1)


@pytest.mark.parametrize("name", ["chains", "failures"])
def test_a_process_outlives_it(name: str) -> None:
    """Nested iterators would crash the process with a signal, when they are read or freed."""
    loop = "{% set n = namespace(g=range(3)) %}{% for i in range(50000) %}{% set n.g = n.g|LAZY %}{% endfor %}"
    tables = {
        "chains": [loop.replace("LAZY", each) + "{{ n.g|" + read + " }}" for each in LAZY for read in READING[:2]],
        "failures": [loop.replace("LAZY", "select") + "{{ n.g|" + each + " }}{{ a.b.c }}" for each in READING],
    }
    child = subprocess.run(
        [sys.executable, "-c", _RUN], cwd=ROOT, input=json.dumps(dict(enumerate(tables[name]))), text=True,
        capture_output=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert child.returncode == 0
    assert len(child.stdout.splitlines()) == 2 * len(tables[name])


class _Held(list[int]):
    """A list with weak references."""


@pytest.mark.parametrize(
    "source",
    [
        "{% set k = a %}ok", "{% set k = a %}{{ x.y.z }}", "{% macro m(k) %}{{ x.y.z }}{% endmacro %}{{ m(a) }}",
        "{% macro m(k) %}{{ m(k) }}{% endmacro %}{{ m(a) }}",
        "{% for k in [a] %}{{ raise_exception('x') }}{% endfor %}",
        "{% macro m(k) %}{{ k|length }}{% endmacro %}{{ m(a) }}", "{% set k = a %}{% include 'other' %}",
        "{% set n = namespace(l=a) %}" + LOOP + "{% set n.l = (n.l, 'x' * 99999) %}{% endfor %}",
    ],
)  # fmt: skip
def test_nothing_is_held_afterwards(source: str) -> None:
    """By the error, by its frames, or by what only Python's collector would find."""
    sandbox, given = Sandbox(), _Held()
    watched, caught = weakref.ref(given), []
    gc.disable()
    try:
        sandbox.render("it", source, {"a": given})
    except TemplateFailed as error:
        caught.append(error.with_traceback(None))
        assert error.__context__ is None
    finally:
        del given
        held = watched() is not None
        gc.enable()
    assert not held


@pytest.mark.parametrize("source", ["{{ [1, 2]|map('string')|tojson }}", "{{ [[1]|select, ['2']|unique]|tojson }}"])
def test_json_of_entries_that_come_one_by_one(source: str) -> None:
    assert Sandbox().render("it", source, {}) in ('["1", "2"]', '[[1], ["2"]]')


def test_json_of_no_value_fails() -> None:
    with pytest.raises(TemplateFailed, match="tojson cannot write a method"):
        Sandbox().render("it", "{{ {'a': n}|tojson }}", {"n": Sandbox().render})


def test_a_request_s_own_template_has_less(tmp_path: Path) -> None:
    templates = Templates(Paths.under(tmp_path))
    source = "{% for i in range(99999) %}{% for j in range(15) %}{% endfor %}{% endfor %}ok"
    with pytest.raises(TemplateFailed, match="1,000,000 steps"):
        templates.render(source, [])
    assert templates.detect_for("any", source, "the GGUF")[0] == source
    assert templates.render(source, []) == "ok"


@pytest.mark.parametrize("count", [100, 1000])
def test_a_template_that_adds_to_a_text_stays_within_its_bytes(count: int) -> None:
    source = "{% set n = namespace(o='') %}{% for m in messages %}{% set n.o = n.o ~ m.content %}{% endfor %}{{ n.o }}"
    messages = [{"content": "x" * 1600}] * count
    assert len(Sandbox().render("it", source, {"messages": messages})) == 1600 * count


def test_a_budget_is_for_one_run() -> None:
    sandbox = Sandbox(steps=1000)
    source = "{% for i in range(n) %}{% endfor %}ok"
    for _ in range(3):
        assert sandbox.render("it", source, {"n": 900}) == "ok"
        with pytest.raises(TemplateFailed, match="line 1: it takes more than 1,000 steps"):
            sandbox.render("it", source, {"n": 1100})


def test_computing_time_ends_it_too() -> None:
    sandbox = Sandbox(steps=10**12, seconds=0.05)
    with pytest.raises(TemplateFailed, match=r"runs for more than 0\.05 seconds"):
        sandbox.render("it", HOSTILE["nested loops"], {})


def test_templates_in_other_threads_do_not_pay() -> None:
    budget, failed = Budget(steps=100), []

    def work() -> None:
        try:
            budget.begin()
            for _ in range(90):
                budget.spend()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


CHAT = [{"role": ("user", "assistant")[i % 2], "content": f"Message {i}. " + "word " * 200} for i in range(1000)]


@pytest.mark.parametrize("name", Templates(Paths.under(ROOT)).names())
def test_an_honest_template_is_far_from_the_end_of_its_budget(name: str) -> None:
    """A chat of a thousand messages of a kilobyte each takes less than a twentieth of it."""
    source = Templates(Paths.under(ROOT)).load(name)
    values = {"messages": CHAT, "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True, "tools": None}
    assert Sandbox(steps=STEPS // 20).render(name, source, values)
