"""The table in docs/gpu.md: a row for each combination, and all within the required accuracy."""

from __future__ import annotations

import re

from tests.loaders.llamacpp import card_table


def test_the_document_has_all_rows_and_all_are_near() -> None:
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in card_table.written().splitlines()[2:]]
    assert len(rows) >= 30
    assert [tuple(row[:3]) for row in rows] == [row.label for row in card_table.ROWS]
    for row in rows:
        forecast, taken = ([float(part) for part in cell.split("+")] for cell in row[3:5])
        for one, other in zip(forecast, taken, strict=True):
            assert card_table.within(round(one * 2**20), round(other * 2**20)), row
        assert re.fullmatch(r"[+-][\d.]+ MiB, [+-][\d.]+ %", row[5]), row


def test_too_far_is_too_far() -> None:
    mib = 2**20
    assert card_table.within(103 * mib, 100 * mib)
    assert card_table.within(1030 * mib, 1000 * mib)
    assert not card_table.within(1031 * mib, 1000 * mib)
    assert not card_table.within(95 * mib, 100 * mib)
