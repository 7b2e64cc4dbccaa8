"""Which of the paper's numbers stands beside which cell."""

from __future__ import annotations

from scsave.results.paper import SETTINGS, Reported, fits, matching
from scsave.results.table import Cell, Table

SMALL = "small/"  # few cells, genes and steps: no reproduction, so no number of the paper stands beside it


def add_paper(table: Table, number: int) -> list[str]:
    """The paper's numbers of a column to the rows that they belong to; returns rows that only the paper has."""
    column, alone = table.columns[number], []
    first = column.bench.first
    if (first.experiment_name or "").startswith(SMALL):
        return []
    found = matching(task=first.task, data=first.data, split=first.split, metric=column.metric.name, group=column.group)
    found = [one for one in found if one.experiment is not None or fits(one, None, first.config)]
    rows = [row for row, at in table.cells if at == number]
    for one in found:
        ours = [row for row in rows if one.row is not None and (row == one.row or row.startswith(f"{one.row} ("))]
        if one.experiment is not None:
            ours = [row for row in ours if _any_fits(table.cells[row, number], one)]
        elif len(ours) > 1:  # several variants: those that the paper's experiments made
            ours = [row for row in ours if _is_headline(table.cells[row, number])]
        for row in ours:
            cell = table.cells[row, number]
            cell.paper = cell.paper or one
        if not ours and one.experiment is None:
            row = f"{one.method}, as reported"
            table.cells[row, number] = Cell(paper=one)
            alone.append(row)
    return alone


def _any_fits(cell: Cell, one: Reported) -> bool:
    return any(fits(one, source.experiment_name, source.config) for source in cell.sources.values())


def _is_headline(cell: Cell) -> bool:
    other = {experiment for experiment, _ in SETTINGS.values()}
    names = [source.experiment_name or "" for source in cell.sources.values()]
    return any(name.startswith("paper/") and name not in other for name in names)
