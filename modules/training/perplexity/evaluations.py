"""The table of results: logs/evaluations.csv, with the original's columns followed by this program's own.

A row is identified by model, LoRAs, data set, stride and max_length; measuring it again replaces it and keeps its
comment.
"""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from errors import BadFile, InvalidInput, NotWritable, encode_utf8
from modules.config.atomic import write_text
from modules.training.perplexity.measure import PerplexityResult, WindowPlan

COLUMNS = ("Model", "LoRAs", "Dataset", "Perplexity", "stride", "max_length", "Date", "Comment")
_MEND = "Fix it in the program that wrote it, or move it away to start a new one."
_LONGEST = 4000  # characters of a comment
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
            found = csv.DictReader(io.StringIO(text))
            if lacking := [name for name in COLUMNS if name not in (found.fieldnames or ())]:
                raise BadFile(
                    self.file, f"its first line lacks the comma-separated columns {', '.join(lacking)}", _MEND
                )
            # other columns of the user's are kept, too
            return [{name: value or "" for name, value in row.items() if name is not None} for row in found]
        except csv.Error as error:
            raise BadFile(self.file, str(error), _MEND) from None

    def find(self, model: str, loras: str, dataset: str, plan: WindowPlan) -> Row | None:
        """The result of this combination, if there is one. Raises: BadFile."""
        wanted = _key(make_row(model, loras, dataset, plan, 0.0))
        return next((row for row in self.rows() if _key(row) == wanted), None)

    def add(self, measured: PerplexityResult, loras: str, dataset: str, plan: WindowPlan) -> Row:
        """Add a result. Raises: BadFile, NotWritable."""
        # the window that was used, which the model's context may have limited
        plan = replace(plan, max_length=measured.window)
        new = make_row(measured.model, loras, dataset, plan, measured.perplexity)
        with self._lock:
            rows = self.rows()
            for place, row in enumerate(rows):
                if _key(row) == _key(new):
                    rows[place] = new = {**row, **new, "Comment": row["Comment"]}
                    break
            else:
                rows.append(new)
            self._write(rows)
        return new

    def comment(self, rows: Sequence[Row]) -> int:
        """Save the comments of these rows and nothing else; returns how many changed.

        Raises: BadFile, NotWritable, InvalidInput (an invalid comment).
        """
        given = {_key(row): row.get("Comment", "") for row in rows}
        with self._lock:
            kept = self.rows()
            changed = 0
            for row in kept:
                comment = encode_utf8(given.get(_key(row), row["Comment"]), "The comment").decode()
                if len(comment) > _LONGEST:
                    raise InvalidInput(f"A comment may have at most {_LONGEST:,} characters; one has {len(comment):,}.")
                changed += comment != row["Comment"]
                row["Comment"] = comment
            if changed:
                self._write(kept)
        return changed

    def text(self) -> str:
        """The whole table as CSV. Raises: BadFile."""
        return to_csv(self.rows())

    def _write(self, rows: Sequence[Row]) -> None:
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.file, to_csv(rows))
        except OSError as error:
            raise NotWritable(self.file, error) from None


def to_csv(rows: Sequence[Row]) -> str:
    made = io.StringIO()
    more = dict.fromkeys(name for row in rows for name in row if name not in COLUMNS)
    writer = csv.DictWriter(made, [*COLUMNS, *more], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return made.getvalue()


def make_row(model: str, loras: str, dataset: str, plan: WindowPlan, perplexity: float) -> Row:
    """A result as a row. Windows of halves are marked in the stride column."""
    stride = str(plan.stride) if plan.way == "stride" else "halves"
    values = (model, loras or "-", dataset, f"{perplexity:.6f}", stride, str(plan.max_length), f"{date.today()}", "")
    return dict(zip(COLUMNS, values, strict=True))


def _key(row: Row) -> tuple[str, ...]:
    return tuple(str(row.get(name, "")).strip() for name in _KEY)
