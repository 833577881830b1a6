"""Perplexity: windows that score each token once, the same values as a plain loop, a table that keeps comments."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import BadFile, Cancelled, Conflict, FetchFailed, InvalidInput, InvalidName, Unavailable, UnknownName
from loaders import loader_named
from loaders.base import Model
from modules.library.model_leases import Leases, ModelLease
from modules.training.perplexity.evaluations import COLUMNS, Evaluations, make_row
from modules.training.perplexity.manager import PerplexityManager
from modules.training.perplexity.measure import PerplexityResult, WindowPlan, make_windows, measure_perplexity
from modules.training.perplexity.texts import PerplexityTexts
from tests.conftest import keep_going

ROOT = Path(__file__).resolve().parents[3]
TEXT = "The quick brown fox jumps over the lazy dog. " * 12 + "Then it rests, and nobody minds."


@given(st.integers(2, 300), st.integers(1, 120), st.integers(2, 100))
def test_each_token_but_the_first_counts_once_and_sees_what_it_can(n: int, stride: int, length: int) -> None:
    ids = list(range(n))
    counted: list[int] = []
    for window in make_windows(ids, WindowPlan(stride, length), 1000):
        assert len(window.ids) <= length
        assert list(window.ids) == ids[window.begin : window.begin + len(window.ids)]
        counted += window.ids[1:][window.start :]
    # side by side, the first of each window has nothing before it
    without = {0} if stride < length else set(range(0, n, length))
    assert counted == [each for each in ids if each not in without]


def test_halves_are_those_of_llama_perplexity() -> None:
    cut = make_windows(list(range(100, 150)), WindowPlan(max_length=20, way="halves"), 1000, start=1)
    assert [(each.ids[0], each.ids[1], len(each.ids), each.start) for each in cut] == [
        (1, 101, 20, 10),
        (1, 121, 20, 10),
    ]
    with pytest.raises(InvalidInput, match="50 tokens, but a window needs 64"):
        make_windows(list(range(50)), WindowPlan(max_length=64, way="halves"), 1000)


@pytest.mark.parametrize("plan", [WindowPlan(stride=0), WindowPlan(max_length=1)])
def test_what_cannot_be_cut_is_a_sentence(plan: WindowPlan) -> None:
    with pytest.raises(InvalidInput):
        make_windows(list(range(50)), plan, 1000)


def test_a_text_of_one_token_is_a_sentence(demo_model: Model) -> None:
    for text in ("", "a"):
        with pytest.raises(InvalidInput, match="fewer than 2 tokens"):
            list(measure_perplexity(demo_model, text))


def test_the_figure_is_that_of_a_plain_loop(demo_model: Model) -> None:
    plan = WindowPlan(stride=48, max_length=64)
    *_, result = measure_perplexity(demo_model, TEXT, plan)
    ids, total, count, before = result.ids, 0.0, 0, 0
    for begin in range(0, len(ids), 48):
        end = min(begin + 64, len(ids))
        scores = demo_model.score(ids[begin:end])
        for place in range(max(before, begin + 1), end):
            total -= float(scores[place - begin - 1])
            count += 1
        before = end
        if end == len(ids):
            break
    assert count == result.scored == len(ids) - 1
    assert result.perplexity == pytest.approx(math.exp(total / count), rel=1e-3)
    assert np.concatenate(result.places).tolist() == list(range(1, len(ids)))
    assert (result.done, result.seconds_left) == (result.windows, 0)


def test_a_window_may_be_as_long_as_the_context(demo_model_path: Path) -> None:
    """max_length 0: nothing follows the last token, so that no room is kept for it."""
    loader = loader_named("llama.cpp")
    options = loader.Options.parse({"n_ctx": 256, "threads": 1, "threads_batch": 1})
    with loader.load(demo_model_path, options, keep_going) as model:
        *_, result = measure_perplexity(model, TEXT * 4, WindowPlan(stride=model.context_length))
    assert len(result.ids) > model.context_length
    assert (result.windows, result.scored) == (math.ceil(len(result.ids) / 256), len(result.ids) - result.windows)


def test_it_can_be_cancelled(demo_model: Model) -> None:
    cancel = threading.Event()
    steps = measure_perplexity(demo_model, TEXT, WindowPlan(stride=16, max_length=32), cancel)
    assert next(steps).done == 1
    cancel.set()
    with pytest.raises(Cancelled):
        next(steps)


# --- texts ---


def test_texts_come_from_the_folder_and_what_cannot_be_had_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = PerplexityTexts(tmp_path)
    (tmp_path / "mine.txt").write_text("Words of mine", "utf-8")
    (tmp_path / "ptb.txt").write_text("The bank", "utf-8")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    assert texts.names() == ["wikitext", "ptb", "ptb_new", "bytes", "mine"]
    assert texts.load("mine") == "Words of mine"
    assert texts.load("ptb") == "The bank"
    with pytest.raises(BadFile, match="UTF-8"):
        texts.load("bytes")
    with pytest.raises(UnknownName, match="Did you mean mine"):
        texts.load("mines")
    with pytest.raises(InvalidName):
        texts.load("../mine")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(FetchFailed, match=r"wikitext could not be downloaded.*wikitext\.txt"):
        texts.load("wikitext")

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach 'x' on the Hub (LocalEntryNotFoundError)")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=unreachable))
    with pytest.raises(FetchFailed, match=r"downloaded: the model hub cannot be reached\. Save"):
        texts.load("wikitext")


# --- the table ---


def measured(model: str, perplexity: float) -> PerplexityResult:
    surprise = [np.full(4, math.log(perplexity), np.float32)]
    return PerplexityResult(model, 5, 1, 64, 1, 1.0, surprise, [np.arange(1, 5)])


def test_the_table_replaces_a_combination_and_keeps_its_comment(tmp_path: Path) -> None:
    table = Evaluations(tmp_path / "logs" / "evaluations.csv")
    assert table.rows() == []
    table.add(measured("a", 8.0), "", "mine", WindowPlan())
    table.add(measured("b", 9.0), "lora", "mine", WindowPlan(way="halves"))
    rows = table.rows()
    rows[0]["Comment"] = 'good, "very"\ngood'
    rows[1]["Perplexity"] = "0"
    assert table.comment(rows) == 1
    table.add(measured("a", 7.5), "", "mine", WindowPlan())
    first, second = table.rows()
    assert (first["Perplexity"][:3], first["Comment"]) == ("7.5", 'good, "very"\ngood')
    assert (second["Perplexity"][:3], second["stride"]) == ("9.0", "halves")
    assert first["max_length"] == "64"  # the window that was used, whatever was asked for
    assert table.find("a", "", "mine", WindowPlan(max_length=64)) == first
    assert table.find("a", "", "mine", WindowPlan(stride=256)) is None
    assert table.text().splitlines()[0] == ",".join(COLUMNS)


def test_the_originals_table_is_read(tmp_path: Path) -> None:
    file = tmp_path / "evaluations.csv"
    file.write_text(
        "Model,LoRAs,Dataset,Perplexity,stride,max_length,Date,Comment\nx,-,wikitext,5.1,512,0,2024-01-02,\n"
    )
    table = Evaluations(file)
    assert table.find("x", "", "wikitext", WindowPlan())
    file.write_bytes(b"\xff\xff")
    with pytest.raises(BadFile):
        table.rows()
    assert make_row("m", "", "d", WindowPlan(), 2.0)["LoRAs"] == "-"


def test_a_table_of_another_programs_is_never_written_over(tmp_path: Path) -> None:
    file = tmp_path / "evaluations.csv"
    head = ",".join(COLUMNS)
    file.write_text(f"{head},Mine\nx,-,d,5.1,512,64,2024-01-02,,kept\n")
    table = Evaluations(file)
    table.add(measured("y", 8.0), "", "d", WindowPlan())
    table.add(measured("x", 8.0), "", "d", WindowPlan())
    assert [row["Mine"] for row in table.rows()] == ["kept", ""]
    semicolons = file.read_text().replace(",", ";")
    file.write_text(semicolons)
    with pytest.raises(BadFile, match="first line lacks the comma-separated columns Model, LoRAs"):
        table.add(measured("z", 8.0), "", "d", WindowPlan())
    assert file.read_text() == semicolons


@pytest.mark.parametrize(
    ("comment", "said"), [("x" * 5000, "at most 4,000 characters"), ("a\ud83d", "invalid character")]
)
def test_a_comment_that_cannot_be_kept_is_a_sentence(tmp_path: Path, comment: str, said: str) -> None:
    table = Evaluations(tmp_path / "evaluations.csv")
    table.add(measured("a", 8.0), "", "mine", WindowPlan())
    rows = table.rows()
    rows[0]["Comment"] = comment
    with pytest.raises(InvalidInput, match=said):
        table.comment(rows)
    assert table.rows()[0]["Comment"] == ""


# --- for the page ---


class OneModel:
    """Models of which one is loaded; another name cannot be."""

    def __init__(self, model: Model) -> None:
        self.loaded = model
        self.state = SimpleNamespace(name="demo")
        self.memory = SimpleNamespace(lease=self.lease, leases=Leases())

    def current(self) -> Model:
        return self.loaded

    def named(self, name: str) -> Model | None:
        return self.loaded if name == self.state.name else None

    def lease(self, name: str) -> ModelLease | None:
        return ModelLease(self.loaded) if name == self.state.name else None

    def load(self, name: str) -> Model:
        raise UnknownName("model", name, ["demo"])


def test_a_run_goes_on_by_itself_and_can_be_stopped(demo_model: Model, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text(TEXT, "utf-8")
    table = Evaluations(tmp_path / "evaluations.csv")
    models: Any = OneModel(demo_model)
    measuring = PerplexityManager(models, PerplexityTexts(tmp_path), table)
    with pytest.raises(InvalidInput, match="Choose a text"):
        measuring.start([], "", WindowPlan())
    measuring.start([], "mine", WindowPlan(stride=1, max_length=32))
    with pytest.raises(Conflict, match="already running"):
        measuring.start([], "mine", WindowPlan())
    measuring.stop()
    assert measuring.wait(30).phase == "stopped"
    assert table.rows() == []
    measuring.start([], "mine", WindowPlan(stride=64, max_length=64))
    run = measuring.wait(60)
    assert (run.phase, run.through, run.kept, run.name) == ("done", True, 1, "demo")
    assert "".join(run.pieces).startswith("The quick brown fox")
    measuring.start(["demo", "other"], "mine", WindowPlan(stride=64, max_length=64))
    run = measuring.wait(60)
    assert (run.phase, run.error) == ("failed", "There is no model named 'other'.")
    assert len(table.rows()) == 1  # what was measured before stays
    measuring.start([], "nothing", WindowPlan())
    assert "no text named" in measuring.wait(10).error
    measuring.close()


def test_a_model_without_numbers_is_a_sentence(demo_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(demo_model), "score", lambda *_: np.array([-1.0, np.nan]))
    with pytest.raises(Unavailable, match="returns NaN"):
        list(measure_perplexity(demo_model, TEXT))
    assert measured("x", 2.0).perplexity == pytest.approx(2)
    hopeless = PerplexityResult("x", 2, 1, 64, surprise=[np.array([1000.0], np.float32)])
    assert hopeless.perplexity == math.inf


# --- the command line ---


def test_the_command_line_measures_and_keeps(tmp_path: Path, demo_model_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / demo_model_path.name).symlink_to(demo_model_path)
    (tmp_path / "text.txt").write_text(TEXT, "utf-8")
    command = [sys.executable, "-m", "modules.training", "perplexity", "--root", str(tmp_path)]
    given = ["--text", str(tmp_path / "text.txt"), "--stride", "64", "--max-length", "128", "--n-ctx", "256"]
    ran = subprocess.run(
        [*command, demo_model_path.name, *given], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    (row,) = Evaluations(tmp_path / "logs" / "evaluations.csv").rows()
    assert (row["Model"], row["Dataset"], row["stride"]) == (demo_model_path.name, "text", "64")
    assert f"{float(row['Perplexity']):.4f}" in ran.stdout
    ran = subprocess.run([*command, "none-such", *given], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "none-such" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_scores_from_a_place_on_are_those_of_all(demo_model_path: Path) -> None:
    """What nobody asked for costs no output layer. llama.cpp sums in another order in batches of another size."""
    loader = loader_named("llama.cpp")
    options = loader.Options.parse({"n_ctx": 512, "threads": 1, "threads_batch": 1})
    found = []
    for start in (0, 150):
        with loader.load(demo_model_path, options, keep_going) as model:
            ids = model.tokenizer.encode(TEXT * 3)[:200]
            found.append(model.score(ids, start=start))
            assert model.score(ids[:151], start=150).shape == (0,)
    whole, rest = found
    assert (whole.shape, rest.shape) == ((199,), (49,))
    assert float(rest.mean()) == pytest.approx(float(whole[150:].mean()), abs=0.05)
    assert np.corrcoef(rest, whole[150:])[0, 1] > 0.99
