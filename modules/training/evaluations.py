"""The table of results: logs/evaluations.csv, with the original's columns and what this program adds behind them.

A row is known by model, LoRAs, data set, stride and max_length; measuring it again replaces it and keeps its comment.
"""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from errors import BadFile, NotWritable
from modules.config.atomic import write_text
from modules.training.perplexity import Measured, Plan

COLUMNS = ("Model", "LoRAs", "Dataset", "Perplexity", "stride", "max_length", "Date", "Comment")
_KEY = ("Model", "LoRAs", "Dataset", "stride", "max_length")

Row = dict[str, str]


class Evaluations:
    """The file. May be used from several threads."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lock = threading.Lock()

    def rows(self) -> list[Row]:
        """All results, in the file's order. Raises: BadFile."""
        try:
            text = self.file.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise BadFile(self.file, str(error)) from None
        try:
            return [{name: row.get(name) or "" for name in COLUMNS} for row in csv.DictReader(io.StringIO(text))]
        except csv.Error as error:
            raise BadFile(self.file, str(error)) from None

    def find(self, model: str, loras: str, dataset: str, plan: Plan) -> Row | None:
        """The result of this combination, if it is there. Raises: BadFile."""
        wanted = _key(row_of(model, loras, dataset, plan, 0.0))
        return next((row for row in self.rows() if _key(row) == wanted), None)

    def add(self, measured: Measured, loras: str, dataset: str, plan: Plan) -> Row:
        """Keep a result. Raises: BadFile, NotWritable."""
        new = row_of(measured.model, loras, dataset, plan, measured.perplexity)
        with self._lock:
            rows = self.rows()
            for place, row in enumerate(rows):
                if _key(row) == _key(new):
                    rows[place] = new = {**new, "Comment": row["Comment"]}
                    break
            else:
                rows.append(new)
            self._write(rows)
        return new

    def comment(self, rows: Sequence[Row]) -> int:
        """Take over the comments of these rows, and nothing else; how many changed. Raises: BadFile, NotWritable."""
        given = {_key(row): row.get("Comment", "") for row in rows}
        with self._lock:
            kept = self.rows()
            changed = 0
            for row in kept:
                comment = given.get(_key(row), row["Comment"])
                changed += comment != row["Comment"]
                row["Comment"] = comment
            if changed:
                self._write(kept)
        return changed

    def text(self) -> str:
        """The whole table as CSV. Raises: BadFile."""
        return as_csv(self.rows())

    def _write(self, rows: Sequence[Row]) -> None:
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.file, as_csv(rows))
        except OSError as error:
            raise NotWritable(self.file, error) from None


def as_csv(rows: Sequence[Row]) -> str:
    made = io.StringIO()
    writer = csv.DictWriter(made, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return made.getvalue()


def row_of(model: str, loras: str, dataset: str, plan: Plan, perplexity: float) -> Row:
    """A result as a row. Windows of halves are marked in the stride's place."""
    stride = str(plan.stride) if plan.way == "stride" else "halves"
    values = (model, loras or "-", dataset, f"{perplexity:.6f}", stride, str(plan.max_length), f"{date.today()}", "")
    return dict(zip(COLUMNS, values, strict=True))


def _key(row: Row) -> tuple[str, ...]:
    return tuple(str(row.get(name, "")).strip() for name in _KEY)
