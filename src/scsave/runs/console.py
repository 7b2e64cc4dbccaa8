"""The table that a run prints: rows of results.json, arrows from the metric registry."""

from rich.console import Console
from rich.table import Table

from scsave.metrics.registry import rows
from scsave.protocol import Scores


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
