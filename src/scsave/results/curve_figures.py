"""Pictures over many runs: curves over one setting beside the noise floor, and quality against training time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scsave.files import slug
from scsave.metrics.registry import rows as registry_rows
from scsave.metrics.row import Metric
from scsave.results.collect import Result
from scsave.results.comparable import benches
from scsave.results.costs import cost_rows, is_cost
from scsave.results.curves import Curves, curves
from scsave.results.paper import fits, matching
from scsave.results.style import OTHER, REAL, figure, palette, save
from scsave.results.table import role
from scsave.results.tables import make_table, shown_metrics

FLOORS = ("real", "ceiling")
ANNOTATED = 14  # points with a name, at most


@dataclass(frozen=True)
class Sweep:
    """A picture over one setting: its config key, what the axis says, and which metrics and costs tell the trade-off."""

    key: str
    axis: str
    metrics: tuple[str, ...]
    logarithmic: bool = False


SWEEPS = {
    "guidance": Sweep("sampling.guidance", "guidance weight w", ("w1", "label_accuracy", "recall", "variance_ratio")),
    "sampling_steps": Sweep(
        "sampling.solver.steps", "sampling steps", ("w1", "mmd2_unbiased", "c2st_auc", "sample_seconds"), True
    ),
    "block_size": Sweep(
        "blocking.block_size", "genes a block, K", ("w1", "mmd2_rbf", "c2st_auc", "train_minutes"), True
    ),
}


def metrics_of(registry: str, names: Sequence[str]) -> list[Metric]:
    """Rows of the registry and costs by name; those that the task does not have are replaced by what its tables show."""
    known = registry_rows(registry) | cost_rows(registry)
    metrics = [name for name in names if name in known and not is_cost(known[name])]
    costs = [name for name in names if name in known and is_cost(known[name])]
    shown = metrics if len(metrics) > 1 else list(shown_metrics(registry))
    return [known[name] for name in dict.fromkeys([*shown, *costs])]


def draw_sweep(folder: Path, name: str, sweep: Sweep, results: Sequence[Result]) -> list[Path]:
    """`<name>_<task>_<data>.png` for each data set that has such runs."""
    written = []
    for registry in sorted({result.registry for result in results}):
        metrics = metrics_of(registry, sweep.metrics)
        same = [result for result in results if result.registry == registry and result.method == "scsave"]
        for found in curves(same, sweep.key, metrics):
            path = folder / f"{name}_{registry}_{slug(found.bench.label)}.png"
            written.append(_curves(path, found, sweep, metrics))
    return written


def _curves(path: Path, found: Curves, sweep: Sweep, metrics: list[Metric]) -> Path:
    fig, axes = figure(1, len(metrics), width=3.1, height=3.0)
    colors = palette(len(found.series))
    for ax, metric in zip(np.atleast_1d(axes), metrics, strict=True):
        for series, color in zip(found.series, colors, strict=True):
            x, mean, sd = series.values(metric)
            ax.errorbar(
                x,
                mean,
                yerr=sd if sd.any() else None,
                color=color,
                marker="o",
                ms=4,
                lw=1.4,
                capsize=2,
                label=series.label,
            )
        _floor(ax, found, metric)
        _paper(ax, found, metric)
        if sweep.logarithmic:
            ax.set_xscale("log")
        ticks = sorted({x for series in found.series for x in series.points})
        ax.set_xticks(ticks, [f"{x:g}" for x in ticks])
        ax.minorticks_off()
        ax.set(xlabel=sweep.axis, title=f"{metric.label} {'' if is_cost(metric) else metric.arrow}")
        ax.margins(y=0.12)
    last = np.atleast_1d(axes)[-1]
    handles = {label: h for ax in np.atleast_1d(axes) for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    last.legend(handles.values(), handles, frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    seeds = sorted({r.seed for series in found.series for point in series.points.values() for r in point})
    fig.suptitle(f"{found.bench.first.task} on {found.bench.label}, seeds: {', '.join(map(str, seeds))}", fontsize=9)
    return save(fig, path)


def _floor(ax, found: Curves, metric: Metric) -> None:
    for row in FLOORS:
        value = found.reference(row, metric)
        if math.isfinite(value):
            ax.axhline(value, color=REAL, lw=1, ls="--", label=f"{row} ({role(row)})" if role(row) != row else row)


def _paper(ax, found: Curves, metric: Metric) -> None:
    """What the paper reports for the same setting, on the same data set."""
    first, shown = found.bench.first, []
    for one in matching(task=first.task, data=first.data, split=first.split, metric=metric.name):
        for series in found.series:
            for x, point in series.points.items():
                if one.experiment and any(fits(one, r.experiment_name, r.config) for r in point):
                    shown.append((x, one.value))
    if shown:
        ax.plot(*zip(*sorted(set(shown)), strict=True), color=OTHER, marker="s", ms=4, lw=1, ls=":", label="paper")


def draw_time(folder: Path, results: Sequence[Result]) -> list[Path]:
    """`training_time_<task>_<data>.png`: each method's quality against the minutes that it trained."""
    written = []
    for registry in sorted({result.registry for result in results}):
        metrics = metrics_of(registry, shown_metrics(registry)[:3])
        same = [result for result in results if result.registry == registry]
        for bench in benches(same, metrics):
            if path := _time(folder, bench.results, metrics, bench.label):
                written.append(path)
    return written


def _time(folder: Path, results: list[Result], metrics: list[Metric], label: str) -> Path | None:
    table = make_table(results, metrics=[metric.name for metric in metrics], group=["all"], costs=True)
    at = {column.metric.name: number for number, column in enumerate(table.columns)}
    minutes = {row: table.cell(row, at["train_minutes"]).mean for row in table.rows}
    rows = [row for row, value in minutes.items() if value > 0]
    if len(rows) < 2:
        return None
    fig, axes = figure(1, len(metrics), width=3.4, height=3.2)
    for ax, metric in zip(np.atleast_1d(axes), metrics, strict=True):
        for row, color in zip(rows, palette(len(rows)), strict=True):
            cell = table.cell(row, at[metric.name])
            y, sd = cell.mean, cell.sd if cell.n > 1 else None
            ax.errorbar(minutes[row], y, yerr=sd, color=color, marker="o", ms=5, capsize=2, lw=1, ls="", label=row)
        for row in FLOORS:
            if table.cell(row, at[metric.name]).n:
                ax.axhline(table.cell(row, at[metric.name]).mean, color=REAL, lw=1, ls="--", label=row)
        ax.set(xlabel="minutes of training", title=f"{metric.label} {metric.arrow}")
        if max(minutes[row] for row in rows) > 5 * min(minutes[row] for row in rows):
            ax.set_xscale("log")
            ax.xaxis.set_major_formatter("{x:g}")
            ax.xaxis.set_minor_formatter("")
        ax.margins(0.12)
    last = np.atleast_1d(axes)[-1]
    last.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), ncols=1 + len(rows) // ANNOTATED)
    devices = ", ".join(sorted({result.device for result in results if result.device}))
    fig.suptitle(f"{label}, mean over seeds; {devices}", fontsize=9)
    return save(fig, folder / f"training_time_{table.registry}_{slug(label)}.png")
