"""axe-core, the usual checker of accessibility, run in a page of the tests.

It is no part of the program: npm fetches it into cache/ at the first run. Without npm, or without a network, tests that
need it are skipped with that reason.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

ROOT = Path(__file__).resolve().parents[2]
VERSION = "4.14.1"
SHA256 = "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745"

_RUN = """
async () => (await axe.run(document, {resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21a',
  'wcag21aa', 'best-practice']})).violations.map((each) => ({rule: each.id, impact: each.impact,
  at: each.nodes.map((node) => `${node.target.join(' ')} | ${node.html.slice(0, 160)}`)}))
"""


def axe_script() -> Path:
    """The path of axe.min.js; skips the test if it cannot be had."""
    folder = ROOT / "cache" / "test-packages"
    script = folder / f"axe-{VERSION}.min.js"
    if script.is_file():
        return script
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("axe-core is fetched with npm, which is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    packed = subprocess.run(
        [npm, "pack", f"axe-core@{VERSION}", "--silent", "--pack-destination", str(folder)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    archive = folder / f"axe-core-{VERSION}.tgz"
    if packed.returncode or not archive.is_file():
        pytest.skip(f"npm could not fetch axe-core {VERSION}: {packed.stderr.strip()[-200:]}")
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == SHA256, "this is not the axe-core that was reviewed"
    with tarfile.open(archive) as files:
        member = files.extractfile("package/axe.min.js")
        assert member
        script.write_bytes(member.read())
    archive.unlink()
    return script


def violations(page: Page) -> list[dict[str, Any]]:
    """What axe-core finds on the page as it is now, other than what is inside of gradio's own hidden parts."""
    if not page.evaluate("typeof axe !== 'undefined'"):
        page.evaluate(axe_script().read_text("utf-8"))
    found: list[dict[str, Any]] = page.evaluate(_RUN)
    return found
