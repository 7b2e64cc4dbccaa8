"""How many digits a column has, and which of its rows is best."""

from __future__ import annotations

import math
from dataclasses import replace

from scsave.results.costs import is_cost
from scsave.results.table import UNRANKED, Table


def rank(table: Table, number: int) -> None:
    """Digits and ranks of a column, from what its rows have."""
    column = table.columns[number]
    ranked = {
        row: table.cells[row, number]
        for row, role in table.rows.items()
        if role not in UNRANKED and (row, number) in table.cells and table.cells[row, number].n
    }
    sizes = [abs(cell.mean) for (_, at), cell in table.cells.items() if at == number and cell.n]
    digits = digits_for(max(sizes, default=1.0))
    table.columns[number] = replace(column, digits=digits)
    seeds = {row: tuple(sorted(s for s, v in cell.values.items() if math.isfinite(v))) for row, cell in ranked.items()}
    if len(set(seeds.values())) > 1:
        told = "; ".join(f"{row} {','.join(map(str, found))}" for row, found in seeds.items())
        note = f"{column.bench.label}: rows are over different seeds, that is, different splits ({told})"
        table.notes.extend([note] if note not in table.notes else [])
    if len(ranked) < 2 or is_cost(column.metric):
        return
    place = {row: round(column.metric.sort_key(round(cell.mean, digits)), 10) for row, cell in ranked.items()}
    for row, cell in ranked.items():
        cell.rank = 1 + sum(other < place[row] for other in place.values())


def digits_for(largest: float) -> int:
    """Decimals of a column by its largest value: 2 from 2 to 100, 3 below, three significant digits below 0.1."""
    if not largest > 0:
        return 3
    for least, digits in ((1000, 0), (100, 1), (2, 2), (0.1, 3)):
        if largest >= least:
            return digits
    return min(2 - math.floor(math.log10(largest)), 8)
