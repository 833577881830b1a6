"""The command line: `python -m modules.training lora`, `merge`, `gguf` or `perplexity`. It needs no page."""

from __future__ import annotations

import argparse
import io
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from installer.own_python import use_own_python

if __name__ == "__main__":
    use_own_python(Path(__file__).resolve().parents[2])

from errors import UserError
from loaders import LOADERS
from modules.config.paths import Paths
from modules.library.model_catalog import ModelCatalog
from modules.library.model_manager import ModelManager
from modules.library.model_settings import ModelSettings
from modules.training.data.folder import read_text
from modules.training.lora.command import add_gguf, add_lora, add_merge
from modules.training.perplexity.evaluations import Evaluations
from modules.training.perplexity.measure import WindowPlan, measure_perplexity
from modules.training.perplexity.texts import PerplexityTexts

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str]) -> int:
    """Run a command; the exit code is 2, after one sentence, if it fails."""
    parser = argparse.ArgumentParser(prog="python -m modules.training")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("perplexity", help="Measure the perplexity of models on a text.")
    one.add_argument("models", nargs="+", metavar="MODEL", help="Model names, as in models/.")
    one.add_argument(
        "--text",
        default="wikitext",
        help="A text file, or a name: wikitext, ptb, ptb_new, or a text in training/datasets.",
    )
    one.add_argument("--stride", type=int, default=512, help="Number of tokens by which the window moves.")
    one.add_argument("--max-length", type=int, default=0, help="Window size in tokens. 0: the model's context.")
    one.add_argument("--halves", action="store_true", help="Split the text like llama-perplexity.")
    one.add_argument("--loader", default="", help="Default: the best loader for each model.")
    one.add_argument("--n-ctx", type=int, default=0, help="Context size to load with. 0: the loader's default.")
    one.add_argument("--root", "--user-data-dir", type=Path, default=ROOT, help="Folder of your data.")
    one.set_defaults(run=perplexity)
    add_lora(commands)
    add_merge(commands)
    add_gguf(commands)
    asked = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        return int(asked.run(asked))
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped; finished results are kept.\n")
        return 130


def perplexity(asked: argparse.Namespace) -> int:
    """Measure each model in turn; the results are written to logs/evaluations.csv. Raises: UserError."""
    paths = Paths.under(asked.root)
    plan = WindowPlan(asked.stride, asked.max_length, "halves" if asked.halves else "stride")
    file = Path(asked.text)
    text = read_text(file) if file.is_file() else PerplexityTexts(paths.training / "datasets").load(asked.text)
    options = {"n_ctx": asked.n_ctx, "max_seq_len": asked.n_ctx} if asked.n_ctx else {}
    models = ModelManager(paths, ModelCatalog(paths), ModelSettings(paths), LOADERS, options)
    table = Evaluations(paths.logs / "evaluations.csv")
    try:
        for name in asked.models:
            models.load(name, asked.loader or None)
            result = None
            for result in measure_perplexity(models.current(), text, plan):
                sys.stderr.write(f"\r{name}: window {result.done} of {result.windows}, {result.perplexity:.4f}")
            assert result
            result.model = models.state.name
            table.add(result, "", file.stem if file.is_file() else asked.text, plan)
            rate = result.scored / result.seconds if result.seconds else 0
            sys.stderr.write("\n")
            measured = f"{result.perplexity:.4f} +/- {result.error:.4f}, {result.scored:,} tokens, {rate:.0f} tokens/s"
            sys.stdout.write(f"{name}: {measured}\n")
    finally:
        models.close()
    return 0


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):  # Windows pipes support few characters: "?" is better than a crash
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    sys.exit(main(sys.argv[1:]))
