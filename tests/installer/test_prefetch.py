"""The demo model's download during the installation: when it happens, and that it never delays anything."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from installer import prefetch
from installer.layout import Layout
from installer.runner import Runner
from tests.installer.stage import make_environment

#: Records its requests, and downloads until its input is closed.
_SLOW = """#!/bin/sh
echo "$*" >>"$(dirname "$0")/asked"
read line || echo "told to stop" >>"$(dirname "$0")/asked"
"""


def _python(layout: Layout, text: str) -> Path:
    make_environment(layout)
    layout.python.write_text(text)
    return layout.python.with_name("asked")


@pytest.mark.parametrize("arguments", [[], ["--model-dir", "/big disk", "--listen"]])
def test_it_gets_the_arguments_of_the_start_and_ends_with_the_trials(layout: Layout, arguments: list[str]) -> None:
    asked = _python(layout, _SLOW)
    with prefetch.prefetch(Runner(layout), arguments):
        while not asked.exists():
            time.sleep(0.01)
    said = asked.read_text().splitlines()
    assert said == [" ".join(["-m modules.library.prefetch", str(layout.root), *arguments]), "told to stop"]


def test_nothing_is_fetched_where_no_start_follows(layout: Layout) -> None:
    asked = _python(layout, _SLOW)
    with prefetch.prefetch(Runner(layout), None):
        pass
    assert not asked.exists()


@pytest.mark.parametrize("text", ["no program", "#!/bin/sh\nexit 1\n", "#!/no/such/shell\n"])
def test_a_fetch_that_cannot_be_is_no_problem(layout: Layout, text: str) -> None:
    _python(layout, text)
    with prefetch.prefetch(Runner(layout), []):
        pass


def test_one_that_does_not_stop_is_ended(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "_PATIENCE", 0.1)
    _python(layout, "#!/bin/sh\nexec sleep 600\n")
    with pytest.raises(ZeroDivisionError), prefetch.prefetch(Runner(layout), []):
        raise ZeroDivisionError
