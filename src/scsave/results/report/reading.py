"""How to read a number: which rows are floor, ceiling and no skill, and what each metric is."""

from __future__ import annotations

from scsave.metrics.registry import REGISTRY
from scsave.metrics.row import Metric
from scsave.results.report.content import Content
from scsave.results.report.html import Html, anchor, code, details, html, link, paragraph, section, table, tag
from scsave.results.table import role

TASKS = {
    "generation": "Generation",
    "batch_correction": "Batch correction",
    "response": "Response to a drug, a cytokine, a disease",
    "genetic": "Genetic perturbation",
}
# Row -> what it is; its kind is `scsave.results.table.role`. A baseline is described in docs/baselines.md.
ROWS = {
    "real": "a second sample of real cells of the same conditions, as many as there are test cells: what chance does",
    "train_resample": "training cells of the same conditions drawn with replacement: what remembering would give",
    "ceiling": "one random half of the real cells predicts the other: as good as the noise of the data allows",
    "unintegrated": "PCA of the uncorrected cells: what no correction gives",
    "mean": "every cell the mean of its conditions' training cells: no variation at all",
    "no_change": "the control cells themselves: no response at all",
    "pooled_control": "control cells whose mean is pooled with training's: no response, from a better known start",
    "perturbed_mean": "the mean over all training perturbations, whatever is asked",
}


def reading_section(content: Content) -> Html:
    there = {row for result in content.results for row in result.metrics}
    rows = [[code(row), role(row), what] for row, what in ROWS.items() if row in there or not content.results]
    return section(
        "reading",
        "How to read a number",
        paragraph(
            tag("strong", "A number without its floor and its ceiling means nothing."),
            " Cells are a noisy sample: two real samples of the same cells are some distance apart, and no method can be told "
            "from perfect below that. So every table has, beside the methods, rows that are no methods:",
        ),
        table("Rows that a number is read against", ["Row", "Kind", "What it is"], rows, numeric=False),
        paragraph(
            "A value at the floor is as good as can be seen with so many cells; a value ",
            tag("em", "better"),
            " than the floor is no achievement: smooth cells have less noise than real ones, and distances reward that. The row ",
            code("mean"),
            " can have the best W1 of all. That is why classifier tests, variance ratios and shares of zeros stand beside "
            "distances. A method that does not beat the no-skill row has shown nothing.",
        ),
        paragraph(
            "Values are means over conditions, cell types or perturbations (the metric says which) and, where a setting was run "
            "with several seeds, mean ± standard deviation over seeds with their number. Each seed has its own split. Arrows: "
            "↑ more is better, ↓ less is better, → the nearer to that value the better.",
        ),
        *[_task(task, title) for task, title in _tasks().items()],
    )


def _tasks() -> dict[str, str]:
    return TASKS | {row.task: row.task.replace("_", " ") for row in REGISTRY.values() if row.task not in TASKS}


def _task(task: str, title: str) -> Html:
    rows = [_metric(row) for row in REGISTRY.values() if row.task == task]
    head = ["Metric", "Best", "Formula", "Space", "What it says"]
    return details(f"Metrics: {title.lower()} ({len(rows)})", table(f"{title}: metrics", head, rows, numeric=False))


def _metric(row: Metric) -> list[object]:
    said = html(row.description, f" ({row.cite})" if row.cite else "", f"; {row.aggregate}, v{row.version}")
    name = tag("th", row.label, " ", code(row.name), scope="row", id=metric_id(row))
    return [name, row.arrow, row.formula, row.space, said]


def metric_id(row: Metric) -> str:
    return anchor("metric", row.key)


def metric_link(row: Metric) -> Html:
    return link(metric_id(row), row.label, title=f"{row.formula} [{row.space}]")
