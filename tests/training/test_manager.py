"""The training process as the page sees it: it never blocks, and a long training takes limited memory."""

from __future__ import annotations

import itertools
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from errors import Conflict
from modules.config.paths import Paths
from modules.library.model_catalog import ModelCatalog
from modules.training.lora.events import KEPT, TrainingEvent
from modules.training.lora.settings import LoraSettings
from modules.training.manager import TrainingManager, TrainingState, apply_event

#: A child that reads nothing until a file is there, as one that imports torch; then it says what it was told.
_SLOW = """
import json, sys, time
from pathlib import Path
while not Path(sys.argv[1]).exists():
    time.sleep(0.01)
settings = json.loads(sys.stdin.readline())
order = json.loads(sys.stdin.readline())
print(json.dumps({"kind": "note", "text": f"{len(settings['raw_text_file'])} {order['order']}"}), flush=True)
print(json.dumps({"kind": "done", "text": "stopped"}), flush=True)
"""


@pytest.mark.parametrize("count", [1, 2, 3, KEPT, KEPT + 1, 2 * KEPT, 2 * KEPT + 1, 10 * KEPT + 7])
@pytest.mark.parametrize("kind", ["step", "evaluation"])
def test_a_course_of_any_length_keeps_its_shape_in_bounded_room(kind: Any, count: int) -> None:
    state = TrainingState("running")
    for update in range(1, count + 1):
        state = apply_event(state, TrainingEvent(kind, update=update))
        curve = state.steps if kind == "step" else state.evaluations
        assert len(curve) <= KEPT + 2
        assert curve[-1].update == curve.total == update
    updates = [event.update for event in curve]
    assert updates[0] == 1
    assert len(updates) >= min(count, KEPT // 2)
    gaps = {second - first for first, second in itertools.pairwise(updates[:-1])}
    assert len(gaps) <= 1, "the points do not lie evenly"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingManager:
    paths = Paths.under(tmp_path)
    paths.ensure()
    made = TrainingManager(paths, ModelCatalog(paths))
    monkeypatch.setattr(made, "_command", lambda *_: [sys.executable, "-c", _SLOW, str(tmp_path / "go")])
    return made


def test_a_child_that_reads_late_holds_up_nobody(shop: TrainingManager, tmp_path: Path) -> None:
    text = "x" * 300_000  # a pipe holds 64 KiB
    settings = LoraSettings.parse({"lora_name": "mine"}).model_copy(update={"raw_text_file": text})
    for act in (lambda: shop.start(settings), lambda: shop.state, shop.stop):
        acting = threading.Thread(target=act, daemon=True)
        acting.start()
        acting.join(20)
        if acting.is_alive():
            shop.kill()
            pytest.fail("it waits for the child")
    with pytest.raises(Conflict):
        shop.start(settings)
    (tmp_path / "go").touch()
    state = shop.wait(30)
    assert (state.phase, state.notes) == ("done", ("300000 stop",))


def test_prompts_that_nobody_reads_do_not_pile_up(shop: TrainingManager) -> None:
    shop.start(LoraSettings.parse({"lora_name": "mine"}).model_copy(update={"raw_text_file": "x" * 300_000}))

    def ask(times: int) -> None:
        for _ in range(times):
            shop.sample("Who?")

    ask(20)
    with pytest.raises(Conflict, match="Earlier prompts"):
        ask(1000)
    shop.kill()
    assert shop.wait(30).phase == "failed"
