"""The Training tab in the browser: a LoRA is previewed, trained and loaded; a text is measured and the result kept."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from modules.training.perplexity.measure import WindowPlan
from tests.training.conftest import FACTS
from tests.ui.conftest import ROOT, Web

TEXT = "The capital of France is Paris. " * 20 + "Zygote xylophone quixotic.\n"


def test_a_text_is_measured_and_kept(web: Web, tmp_path: Path) -> None:
    page = web.page
    web.tab("training")
    page.locator("#tab-perplexity-button").click()
    page.locator("#measure").click()
    expect(page.locator(".toast-wrap")).to_contain_text("Choose a text to measure on.")
    file = tmp_path / "france.txt"
    file.write_text(TEXT, encoding="utf-8")
    with page.expect_file_chooser() as asked:
        page.locator("#measure-add").click()
    asked.value.set_files(str(file))
    expect(page.locator("#measure-text input")).to_have_value("france")
    page.locator("#measure-stride input").fill("64")
    page.locator("#measure-length input").fill("128")
    page.locator("#measure").click()
    expect(page.locator("#measure-progress b")).to_have_count(1)
    figure = float(page.locator("#measure-progress b").inner_text())
    row = web.app.perplexity.evaluations.find(web.app.models.state.name, "", "france", WindowPlan(64, 128))
    assert row is not None
    assert abs(float(row["Perplexity"]) - figure) < 1e-3
    expect(page.locator("#measure-picture svg")).to_be_visible()
    expect(page.locator("#measure-table")).to_contain_text("france")
    page.locator("#measure-tokens button").first.click()
    shades = page.locator("#measure-tokens .shaded span")
    expect(shades.first).to_be_visible()
    known, strange = (
        page.locator("#measure-tokens .shaded span", has_text=word).last.get_attribute("title")
        for word in ("Paris", "x")
    )
    assert float(str(known).rstrip("%")) > 50 > float(str(strange).rstrip("%"))
    expect(page.locator("#measure")).to_be_visible()


def test_without_what_is_asked_for_it_is_a_sentence(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)  # as without the package: no network is asked
    page = web.page
    web.tab("training")
    page.locator("#tab-perplexity-button").click()
    page.locator("#measure-text input").click()
    page.get_by_role("option", name="wikitext").click()
    page.locator("#measure").click()
    expect(page.locator("#measure-progress")).to_contain_text("wikitext could not be downloaded")
    expect(page.locator("#measure-progress")).to_contain_text("wikitext.txt")
    expect(page.locator("#measure")).to_be_visible()


@pytest.fixture
def base(web: Web, tiny_folder: Path) -> Iterator[str]:
    """A tiny base on the shelf, and the shipped formats."""
    there = web.app.paths.models / "tiny"
    there.symlink_to(tiny_folder)
    shutil.copytree(ROOT / "training" / "formats", web.app.paths.training / "formats", dirs_exist_ok=True)
    yield "tiny"
    web.app.training.close()
    web.app.models.unload()
    there.unlink()


def test_a_lora_is_looked_at_trained_and_loaded(web: Web, base: str, tmp_path: Path) -> None:
    page = web.page

    def choose(menu: str, name: str) -> None:
        page.locator(f"#lora-{menu} input").click()
        page.get_by_role("option", name=name, exact=True).click()

    def fill(knob: str, value: object) -> None:
        field = page.locator(f"#lora-{knob} input[type=number], #lora-{knob} textarea, #lora-{knob} input").first
        field.fill(str(value))
        field.press("Tab")

    web.tab("training")
    page.locator("#lora-start").click()
    expect(page.locator(".toast-wrap")).to_contain_text("Enter a name for the LoRA")
    file = tmp_path / "facts.json"
    rows = [{"instruction": question, "output": answer} for question, answer in FACTS] * 50
    file.write_text(json.dumps(rows))  # thousands of updates: it is stopped before its end
    with page.expect_file_chooser() as asked:
        page.locator("#lora-add").click()
    asked.value.set_files(str(file))
    expect(page.locator("#lora-dataset input")).to_have_value("facts")
    choose("model", base)
    page.locator("#lora-look").click()
    expect(page.locator("#lora-looked")).to_contain_text("No row of facts can be used: row 1 has instruction, output")
    choose("format", "alpaca-format")
    page.locator("#lora-look").click()
    expect(page.locator("#lora-looked")).to_contain_text("examples from 200 rows")
    expect(page.locator("#lora-looked pre mark").first).to_contain_text("### Response:")
    page.locator("#lora-next").click()
    expect(page.locator(".toast-wrap").last).to_contain_text("Enter a name for the LoRA")
    fill("lora_name", "seen")
    page.locator("#lora-next").click()
    expect(page.locator("#lora-step-data > button")).to_contain_text("1. Data: seen · tiny · facts · alpaca-format")
    expect(page.locator("#lora-look")).to_be_hidden()
    fill("batch_size", 4)
    fill("epochs", 100)
    page.locator("#lora-start").click()
    expect(page.locator("#lora-curves svg")).to_be_visible(timeout=60_000)
    expect(page.locator("#lora-step-settings > button")).to_contain_text("Epochs 100")
    expect(page.locator("#lora-epochs")).to_be_hidden()
    page.locator("#lora-prompt textarea").fill("The bridge of Varn")
    page.locator("#lora-try").click()
    expect(page.locator("#lora-said mark")).to_be_visible()
    page.reload()
    web.ready()
    web.tab("training")
    expect(page.locator("#lora-progress")).to_contain_text("seen")
    expect(page.locator("#lora-begun")).to_be_hidden()
    page.locator("#lora-stop").click()
    expect(page.locator("#lora-progress b")).to_have_text("seen", timeout=60_000)
    expect(page.locator("#lora-begun input")).to_have_value("seen")
    page.locator("#lora-go-on").click()
    expect(page.locator("#lora-progress .notes")).to_contain_text("Resumes after update", timeout=60_000)
    page.locator("#lora-step-settings > button").click()
    expect(page.locator("#lora-epochs input[type=number]")).to_have_value("100")  # its parameters are shown
    page.locator("#lora-stop").click()
    expect(page.locator("#lora-progress b")).to_have_text("seen", timeout=60_000)
    page.locator("#lora-load").click()
    expect(page.locator("#lora-result")).to_contain_text("seen is loaded on tiny at strength 1", timeout=60_000)
    model = web.app.models.loaded
    assert model is not None
    assert [(each.path.name, each.scale) for each in model.loras] == [("seen", 1.0)]
