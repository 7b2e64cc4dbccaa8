"""The table that a run prints: rows of results.json, arrows from the metric registry."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from scsave.files import RESULTS, numbers
from scsave.metrics.registry import rows
from scsave.protocol import Scores
from scsave.stats.expected import SHARE, said


def print_scores(scores: Scores, task: str, title: str, group: str = "all") -> None:
    """One line a metric, one column a row of the results (method, noise floor, baselines)."""
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("metric")
    names = list(scores)
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("best")
    for metric, row in rows(task).items():
        values = [scores[name].get(group, {}).get(metric) for name in names]
        if any(value is not None for value in values):
            table.add_row(metric, *[_shown(value) for value in values], row.arrow)
    if any("-" in column.cells for column in table.columns[1:-1]):
        table.caption = (
            "-: not computable: too few cells or perturbations, no training cell of the combination (split=unseen), or a "
            "column that it needs (a cell type) was not named"
        )
    # not a terminal: wide enough for every column, so that a log can be read
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(100, 24 + 16 * len(names)))
    console.print(table)


def _shown(value: float | None) -> str:
    if value is None or value != value:
        return "-"
    return f"{value:.4g}"


def print_trust(trust: dict[str, dict[str, float]], most: int = 20) -> None:
    """What accuracy was to be expected of each prediction and what it reached, and how often the interval held it."""
    trust = numbers(trust)  # of a fold that was read back, NaN is None
    known = {name: one for name, one in trust.items() if one["expected_pcc"] == one["expected_pcc"]}
    for name, one in list(known.items())[:most]:
        print(f"{name}: {said(one)}, reached {one['reached']:.2f}")
    if len(known) > most:
        print(f"... and {len(known) - most} more, in {RESULTS}")
    if known:
        inside = sum(one["low"] <= one["reached"] <= one["high"] for one in known.values())
        print(f"the {SHARE:.0%} interval holds what was reached in {inside} of {len(known)} predictions")
    elif trust:
        one = next(iter(trust.values()))
        print(f"how far to trust the predictions: {said(one)}")
