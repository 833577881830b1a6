"""Perplexity in the browser: a text is added, measured, seen token by token, and stays in the table."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

from modules.training.perplexity import Plan
from tests.ui.conftest import Web

TEXT = "The capital of France is Paris. " * 20 + "Zygote xylophone quixotic.\n"


def test_a_text_is_measured_and_kept(web: Web, tmp_path: Path) -> None:
    page = web.page
    web.tab("training")
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
    row = web.app.measuring.evaluations.find(web.app.models.state.name, "", "france", Plan(64, 128))
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
    page.locator("#measure-text input").click()
    page.get_by_role("option", name="wikitext").click()
    page.locator("#measure").click()
    expect(page.locator("#measure-progress")).to_contain_text("wikitext could not be fetched")
    expect(page.locator("#measure-progress")).to_contain_text("wikitext.txt")
    expect(page.locator("#measure")).to_be_visible()
