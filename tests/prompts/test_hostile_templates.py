"""A template that would run for hours ends with a sentence. One process runs the whole table: what hangs in C cannot be
ended from inside.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from errors import TemplateFailed
from modules.config.paths import Paths
from modules.prompts.budget import STEPS, Budget
from modules.prompts.jinja import Sandbox
from modules.prompts.templates import Templates

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 300  # seconds for all of them together: it only catches hangs

LOOP = "{% for i in range(99999) %}"
#: A list (or tuple) of thirty entries on paper and a thousand million when it is walked through, and one like it.
DEEP = (
    "{% set n = namespace(a=OPEN1CLOSE, b=OPEN1CLOSE) %}{% for i in range(40) %}"
    "{% set n.a = OPENn.a, n.aCLOSE %}{% set n.b = OPENn.b, n.bCLOSE %}{% endfor %}"
)
LISTS = DEEP.replace("OPEN", "[").replace("CLOSE", "]")
TUPLES = DEEP.replace("OPEN", "(").replace("CLOSE", ",)").replace("n.a,)", "n.a)").replace("n.b,)", "n.b)")
#: A tuple in a tuple, and so on: what hashes it needs a stack as deep.
CHAIN = (
    "{% set n = namespace(a=()) %}{% for i in range(5000) %}" + "{% set n.a = ({'x': n.a}|dictsort)[0] %}{% endfor %}"
)

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
import json, sys, time
from modules.prompts.budget import SECONDS, STEPS
from modules.prompts.jinja import Sandbox
from errors import TemplateFailed
sandbox = Sandbox(steps=STEPS // 10, seconds=SECONDS / 10)
for name, source in json.load(sys.stdin).items():
    print(json.dumps([name, "began"]), flush=True)
    began = time.monotonic()
    try:
        said = "wrote " + repr(sandbox.render("of a stranger", source, {"messages": [{"role": "user"}]})[:99])
    except TemplateFailed as error:
        said = str(error)
    print(json.dumps([name, said, round(time.monotonic() - began, 2)]), flush=True)
"""


@pytest.fixture(scope="module")
def said() -> dict[str, str]:
    """What became of each of them. One that hangs, or ends the process, is the last one that began."""
    with subprocess.Popen(
        [sys.executable, "-c", _RUN], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            out, _ = child.communicate(json.dumps(HOSTILE), timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
            out, _ = child.communicate()
    lines = [json.loads(line) for line in out.splitlines()]
    for name, what, *seconds in lines:
        if seconds and seconds[0] > 1:
            print(f"{name}: {seconds[0]} s, {what}")
    return {name: what for name, what, *_ in lines}


@pytest.mark.parametrize("name", HOSTILE)
def test_it_ends_with_a_sentence(name: str, said: dict[str, str]) -> None:
    assert said.get(name, "was not reached").startswith("The template of a stranger failed"), said.get(name)


def test_a_budget_is_for_one_run() -> None:
    sandbox = Sandbox(steps=1000)
    source = "{% for i in range(n) %}{% endfor %}ok"
    for _ in range(3):
        assert sandbox.render("it", source, {"n": 900}) == "ok"
        with pytest.raises(TemplateFailed, match="line 1: it takes more than 1,000 steps"):
            sandbox.render("it", source, {"n": 1100})


def test_computing_time_ends_it_too() -> None:
    sandbox = Sandbox(steps=10**12, seconds=0.05)
    with pytest.raises(TemplateFailed, match=r"computes for more than 0\.05 seconds"):
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
    """A chat of a thousand messages, a kilobyte each, takes less than a twentieth of it."""
    source = Templates(Paths.under(ROOT)).load(name)
    values = {"messages": CHAT, "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True, "tools": None}
    assert Sandbox(steps=STEPS // 20).render(name, source, values)
