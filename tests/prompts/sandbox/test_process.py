"""Untrusted templates in separate processes: the same results, whatever happens to a process."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from errors import TemplateFailed, Unavailable, UserError
from modules.config.paths import Paths
from modules.prompts.sandbox import process
from modules.prompts.sandbox.process import TemplateProcesses
from modules.prompts.sandbox.sandbox import Sandbox
from modules.prompts.templates import Templates
from tests.prompts.test_hostile_templates import HOSTILE

LONG = "{% for i in range(99999) %}{% for j in range(99) %}{{ i.__class__ }}{% endfor %}{% endfor %}"
VALUES: dict[str, Any] = {
    "messages": [{"role": "user", "content": 'ä\ud800"\n\u2028', "n": [1.5, -0.0, 1e300, 10**30, None, True, {}, []]}]
}


@pytest.fixture(scope="module")
def processes() -> Iterator[TemplateProcesses]:
    made = TemplateProcesses()
    yield made
    made.close()


def workers() -> list[psutil.Process]:
    found = []
    for each in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            if "modules.prompts.sandbox.worker" in each.cmdline():
                found.append(each)
    return found


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages }}",
        "{{ messages[0].n|tojson }}{{ messages[0].content }}",
        "{{ messages[0].n|map('string')|join(',') }}\n\n{{ nothing }}",
        "{{ strftime_now('%%') }}{% generation %}x{% endgeneration %}",
        "{{ raise_exception('no ' ~ messages[0].role) }}",
        "a\n{{ messages.no.thing }}",
        "{% if %}",
        "{{ '\ud800' }}",
        "",
    ],
)
def test_it_answers_as_the_sandbox_does(processes: TemplateProcesses, source: str) -> None:
    def said(render: Any) -> str:
        try:
            return str(render("it", source, VALUES))
        except TemplateFailed as error:
            return f"{type(error).__name__}: {error}"

    assert said(processes.render) == said(Sandbox().render)
    assert processes.variables(source) == Sandbox().variables(source)


@pytest.mark.slow
def test_hostile_ones_get_their_sentence_here_too(processes: TemplateProcesses) -> None:
    for name in sorted(HOSTILE)[::8]:
        with pytest.raises(TemplateFailed, match="The template of a stranger failed"):
            processes.render("of a stranger", HOSTILE[name], VALUES)
    assert processes.render("it", "{{ 1 + 1 }}", {}) == "2"


def strike(monkeypatch: pytest.MonkeyPatch, blow: int, times: int) -> None:
    """The next workers, this many, get a signal before they can answer."""
    start = process.worker_process.start_worker
    left = iter(range(times))

    def struck(module: str) -> Any:
        process = start(module)
        if next(left, None) is not None:
            process.send_signal(blow)
        return process

    monkeypatch.setattr(process.worker_process, "start_worker", struck)


@pytest.mark.skipif(sys.platform == "win32", reason="has other signals")
@pytest.mark.parametrize(
    ("blow", "times", "said"),
    [
        ("SIGKILL", 1, "1 done"),
        ("SIGSEGV", 1, "1 done"),
        ("SIGKILL", 2, "Unavailable: The template process was killed twice"),
        ("SIGSEGV", 2, "TemplateTooSlow: The template it failed: it takes too long or produces too much output"),
        ("SIGPROF", 1, "TemplateTooSlow: The template it failed: it takes too long or produces too much output"),
    ],
)
def test_one_whose_process_ends_is_tried_once_more(
    monkeypatch: pytest.MonkeyPatch, blow: str, times: int, said: str
) -> None:
    made = TemplateProcesses(1)
    strike(monkeypatch, getattr(signal, blow), times)
    try:
        answer = made.render("it", "{{ messages|length }} done", VALUES)
    except UserError as error:
        answer = f"{type(error).__name__}: {error}"
    assert answer.startswith(said)
    assert made.render("it", "{{ 1 + 1 }}", {}) == "2"
    made.close()


def test_values_that_are_no_json_are_a_sentence(processes: TemplateProcesses) -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    for value in ({1}, b"x", object(), 10**5000, deep):
        with pytest.raises(TemplateFailed, match="cannot be converted to JSON"):
            processes.render("it", "{{ x }}", {"x": value})
    while deep:
        deep = deep[0]


def test_close_ends_what_runs_and_nothing_begins_after_it() -> None:
    made = TemplateProcesses(1)
    said: list[str] = []

    def ask() -> None:
        try:
            made.render("of a stranger", LONG, {})
        except (TemplateFailed, Unavailable) as error:
            said.append(str(error))

    made.render("it", "x", {})
    threads = [threading.Thread(target=ask) for _ in range(3)]
    for each in threads:
        each.start()
    made.close()
    for each in threads:
        each.join(10)
    assert len(said) == 3
    with pytest.raises(Unavailable, match="the program is shutting down"):
        made.render("it", "x", {})


def test_processes_go_with_who_asked_them() -> None:
    made = TemplateProcesses(1)
    before = {each.pid for each in workers()}
    made.render("it", "x", {})
    new = [each for each in workers() if each.pid not in before]
    assert len(new) == 1
    del made
    assert psutil.wait_procs(new, 10)[1] == []


def test_without_processes_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(module: str) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(process.worker_process, "start_worker", refused)
    with pytest.raises(Unavailable, match="Cannot allocate memory"):
        TemplateProcesses(1).render("it", "x", {})


def test_only_the_users_own_run_in_the_program_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    templates = Templates(Paths.under(tmp_path))
    monkeypatch.setattr(templates._processes, "render", lambda name, source, values: "a stranger's")
    templates.save("mine", "mine {{ messages|length }}")
    assert templates.render("mine {{ messages|length }}", []) == "a stranger's"
    assert templates.render(templates.load("mine"), []) == "mine 0"
