"""Which value stands in which cell, and which run it is from."""

from __future__ import annotations

from pathlib import Path

from scsave.results.collect import Result
from scsave.results.comparable import agree
from scsave.results.costs import cost, is_cost
from scsave.results.table import Cell, Column

OWN_RUN = "(own run)"


def _value(column: Column, result: Result, row: str) -> float:
    if is_cost(column.metric):
        return cost(result, column.metric.name) if row == result.method else float("nan")
    return result.value(row, column.metric.name, column.group, column.protocol)


def fill(column: Column, names: dict[Path, str], apart: set[str], notes: list[str]) -> dict[str, Cell]:
    """Cells by row: each reference row once a seed, then the methods' own rows, to which `names` gives suffixes.

    A row that is a reference row too is one with it, unless it is in `apart` (`clashing`). Two runs of one variant and
    seed: the newer, and a note where they differ.
    """
    cells: dict[str, Cell] = {}
    for result in column.bench.results:
        for row in [] if is_cost(column.metric) else result.reference_rows:
            cell = cells.setdefault(row, Cell())
            if result.seed not in cell.values:
                _put(cell, column, result, row)
    own: dict[str, Cell] = {}
    for result in sorted(column.bench.results, key=lambda result: result.precedence, reverse=True):
        for row in result.own_rows:
            label = f"{row} ({names[result.path]})" if names[result.path] else row
            cell = own.setdefault(label, Cell())
            if result.seed not in cell.values:
                _put(cell, column, result, row)
            elif not agree(cell.values[result.seed], _value(column, result, row)) and not is_cost(column.metric):
                first = cell.sources[result.seed].path
                note = f"{label}, seed {result.seed}: {first} shown, the newer of two; {result.path} has other values"
                notes.extend([note] if note not in notes else [])
    for label, cell in own.items():
        if label in apart:
            cells[f"{label} {OWN_RUN}"] = cell
            continue
        for seed, value in cells.get(label, Cell()).values.items():
            if seed not in cell.values:
                cell.values[seed], cell.sources[seed] = value, cells[label].sources[seed]
        cell.values = dict(sorted(cell.values.items()))
        cells[label] = cell
    return cells


def clashing(columns: list[Column]) -> set[str]:
    """Rows that are both a method's own and a reference row, and not the same: a baseline run with other options."""
    found = set()
    for column in columns:
        if is_cost(column.metric):
            continue
        references = {(row, r.seed): r for r in column.bench.results for row in r.reference_rows}
        for result in column.bench.results:
            for row in result.own_rows:
                other = references.get((row, result.seed))
                if other is not None and not agree(_value(column, other, row), _value(column, result, row)):
                    found.add(row)
    return found


def _put(cell: Cell, column: Column, result: Result, row: str) -> None:
    cell.values[result.seed] = _value(column, result, row)
    cell.sources[result.seed] = result
    low, high = result.info.get("intervals", {}).get(row, {}).get(column.group, {}).get(column.metric.name) or (
        None,
        None,
    )
    cell.interval = (low, high) if low is not None and high is not None else None
