"""Training a LoRA compared with a plain script of peft and Trainer: the same model, rows and settings, alternately.

Tokens per second without loading, and the course of the loss. The base is the folder that the tests create from the
demo model.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.figure import ROOT, Figure, Side, in_turn, write
from modules.config.paths import Paths
from modules.library.model_catalog import ModelCatalog
from modules.training.lora.settings import LoraSettings
from modules.training.manager import TrainingManager

MODEL = ROOT / "cache" / "test-models" / "SmolLM2-135M-Instruct"
TEXT = Path("/usr/share/common-licenses/GPL-3")
SETTINGS = LoraSettings.parse({
    "lora_name": "bench", "model": MODEL.name, "dataset": "rows", "always_override": True, "batch_size": 8,
    "micro_batch_size": 4, "epochs": 1, "cutoff_len": 128, "lora_rank": 8, "lora_alpha": 16, "learning_rate": 1e-3,
    "warmup_steps": 0, "eval_steps": 1000,
})  # fmt: skip


def killed(shop: TrainingManager) -> float:
    """The last loss of a training that was killed after its second update and resumed from its checkpoint."""
    settings = SETTINGS.changed(lora_name="killed", save_steps=SETTINGS.accumulation)
    shop.start(settings)
    while shop.state.checkpoint < 2 and shop.state.active:
        time.sleep(0.05)
    shop.kill()
    if shop.wait().phase != "failed":
        raise SystemExit("it ended before it could be killed")
    shop.start(settings.changed(always_override=False))
    state = shop.wait()
    if state.end is None or "Resumes after update" not in state.notes[0]:
        raise SystemExit(state.error or state.notes[0])
    return state.steps[-1].loss or 0.0


def main() -> None:
    if not MODEL.is_dir():
        raise SystemExit("Run the tests of the Transformers loader once: they make the model's folder.")
    paragraphs = [part.strip() for part in TEXT.read_text("utf-8").split("\n\n") if len(part.strip()) > 200]
    rows = [{"text": part} for part in paragraphs[:32]]
    courses: dict[str, list[list[float]]] = {"ours": [], "plain": []}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        paths = Paths.under(root)
        paths.ensure()
        (paths.models / MODEL.name).symlink_to(MODEL)
        sets = paths.training / "datasets"
        sets.mkdir()
        (sets / "rows.json").write_text(json.dumps(rows), "utf-8")
        (root / "given.json").write_text(json.dumps(SETTINGS.model_dump()), "utf-8")

        def ours() -> float:
            shop = TrainingManager(paths, ModelCatalog(paths))
            shop.start(SETTINGS)
            state = shop.wait()
            if state.end is None:
                raise SystemExit(state.error)
            courses["ours"].append([event.loss or 0.0 for event in state.steps])
            return state.end.tokens_per_second

        def plain() -> float:
            script = Path(__file__).with_name("plain_lora.py")
            command = [sys.executable, script, MODEL, sets / "rows.json", root / "plain", root / "given.json"]
            ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
            said: dict[str, Any] = json.loads(ran.stdout.strip().splitlines()[-1])
            courses["plain"].append(said["losses"])
            return float(said["tokens_per_second"])

        speeds = in_turn(3, ours, plain)
        again = killed(TrainingManager(paths, ModelCatalog(paths)))
    mine, theirs = courses["ours"][0], courses["plain"][0]
    apart = max(abs(a / b - 1) for a, b in zip(mine, theirs, strict=True)) * 100
    write(
        "training",
        [
            Figure("SmolLM2 in float32, rank 8", "tokens trained", "tokens/s",
                   Side("ours", speeds[0]), Side("plain peft and Trainer", speeds[1]), 1.0),
            Figure("the same seed", "largest difference in a step's loss", "%",
                   Side("apart", [apart]), Side("allowed", [1.0]), 1.0, at_most=True),
            Figure("kill -9 after update 2, resumed", "difference in the last loss", "%",
                   Side("apart", [abs(again / mine[-1] - 1) * 100]), Side("allowed", [1.0]), 1.0, at_most=True),
        ],
        f"Our losses: {', '.join(f'{loss:.4f}' for loss in mine)}.",
    )  # fmt: skip
