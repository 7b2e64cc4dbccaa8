"""Pictures over many runs: curves over one setting beside floor and ceiling, and quality against training time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from scsave import keys
from scsave.files import slug
from scsave.metrics.registry import rows as registry_rows
from scsave.metrics.row import Metric
from scsave.results.comparable import comparable, differing, told, variant
from scsave.results.frame import COSTS, cost_rows, cost_values, values
from scsave.results.paper import fits, matching
from scsave.results.style import MARKERS, OTHER, REAL, legend_below, level_colors, panels, save
from scsave.results.tables import make_table, shown_metrics

FLOORS = {"real": "--", "ceiling": "-."}


class Sweep(NamedTuple):
    """A picture over one setting: its config key, what the axis says, and the metrics and costs that it trades off."""

    key: str
    axis: str
    metrics: tuple[str, ...]
    scale: str = "log"


_GUIDED, _SAMPLED = ("w1", "label_accuracy", "recall", "variance_ratio"), ("w1", "mmd2_unbiased", "c2st_auc")
SWEEPS = {
    "guidance": Sweep("sampling.guidance", "guidance weight w", _GUIDED, "linear"),
    "sampling_steps": Sweep("sampling.solver.steps", "sampling steps", (*_SAMPLED, "sample_seconds")),
    "block_size": Sweep("blocking.block_size", "genes a block, K", ("w1", "mmd2_rbf", "c2st_auc", "train_minutes")),
}


def metrics_of(registry: str, names: Sequence[str]) -> list[Metric]:
    """Rows of the registry and costs by name; those that the task does not have are replaced by what its tables show."""
    known, costs = registry_rows(registry), cost_rows(registry)
    metrics = [name for name in names if name in known]
    shown = metrics if len(metrics) > 1 else shown_metrics(registry)
    return [(known | costs)[name] for name in dict.fromkeys([*shown, *(name for name in names if name in costs)])]


class Curves(NamedTuple):
    """Lines over one setting in one column of a table."""

    label: str
    runs: pd.DataFrame  # with the setting's value as `x`
    lines: pd.DataFrame  # a line a value: series (what tells the lines apart), x, seed, metric, value
    floors: dict[tuple[str, str], float]  # (row, metric) -> mean over seeds of the floor and the ceiling


def curves(runs: pd.DataFrame, key: str, metrics: Sequence[Metric]) -> list[Curves]:
    """Every column of a table with runs that differ in the numeric setting `key` alone, at two values of it or more.

    Of two runs of one setting and seed a training counts before its evaluation, and the newer.
    """
    names, found = [metric.name for metric in metrics], []
    scored = [name for name in names if name not in COSTS]
    for label, same in runs.groupby(comparable(runs, scored)[0]):
        flat = variant(same)
        swept = [one for one in flat if one.endswith(f".{key}")]
        rest, x = flat.drop(columns=swept), flat[swept[0]] if swept else pd.Series(None, same.index, dtype=object)
        numeric = x.map(lambda value: isinstance(value, int | float) and not isinstance(value, bool))
        same = same.assign(x=x, line=rest.map(str).agg("\n".join, axis=1), first=same["mode"] == "train")[numeric]
        kept = same.sort_values(["first", "written"], ascending=False).drop_duplicates(["line", "x", "seed"])
        kept = kept[kept.groupby("line")["x"].transform("nunique") > 1]
        if kept.empty:
            continue
        shown = differing(rest.loc[kept.index])
        kept["series"] = [told(rest.loc[path], shown) or kept.at[path, "method"] for path in kept.index]
        scores = values(same, kept["headline"].iloc[0], [keys.ALL], scored)
        beside = kept[["series", "x", "seed", "method"]].astype({"x": float})
        own = pd.concat([scores, cost_values(kept)]).join(beside, on="run", how="inner")
        own = own[(own["row"] == own["method"]) & own["metric"].isin(names)].sort_values(["series", "x"])
        floors = scores[scores["row"].isin(FLOORS)].join(same["seed"], on="run")
        floors = floors.drop_duplicates(["row", "metric", "seed"])
        found.append(Curves(label, same, own, floors.groupby(["row", "metric"])["value"].mean().dropna().to_dict()))
    return found


def draw_sweep(folder: Path, name: str, sweep: Sweep, runs: pd.DataFrame) -> list[Path]:
    """`<name>_<task>_<data>.png` for each data set that has such runs of SAVE."""
    import seaborn as sns

    written = []
    for registry, same in runs[runs["method"] == "save"].groupby("registry"):
        metrics = metrics_of(registry, sweep.metrics)
        for found in curves(same, sweep.key, metrics):
            fig, axes = panels(len(metrics))
            ticks, lines = sorted(found.lines["x"].unique()), len(found.lines["series"].unique())
            look = {"palette": level_colors(lines), "markers": list(MARKERS[:lines]), "dashes": False}
            for ax, metric in zip(axes, metrics, strict=True):
                here = found.lines[found.lines["metric"] == metric.name].rename(columns={"series": "line"})
                sns.lineplot(
                    here, x="x", y="value", hue="line", style="line", errorbar="sd", err_style="bars", ax=ax, **look
                )
                _floors(ax, {row: value for (row, name), value in found.floors.items() if name == metric.name})
                if points := _of_paper(found, metric):
                    ax.plot(*zip(*points, strict=True), color=OTHER, marker="s", ms=4, lw=1, ls=":", label="paper")
                ax.set(xscale=sweep.scale, xlabel=sweep.axis, ylabel="", title=_title(metric))
                ax.set_xticks(ticks, [f"{x:g}" for x in ticks])
                ax.minorticks_off()
            legend_below(fig, axes)
            seeds = ", ".join(map(str, sorted(found.runs["seed"].unique())))
            fig.suptitle(f"{found.runs['task'].iloc[0]} on {found.label}, seeds: {seeds}", fontsize=9)
            written.append(save(fig, folder / f"{name}_{registry}_{slug(found.label)}.png"))
    return written


def _title(metric: Metric) -> str:
    return metric.label if metric.name in COSTS else f"{metric.label} {metric.arrow}"


def _floors(ax: Any, floors: dict[str, float]) -> None:
    for row, value in floors.items():
        ax.axhline(value, color=REAL, lw=1, ls=FLOORS[row], label="real (noise floor)" if row == "real" else row)


def _of_paper(found: Curves, metric: Metric) -> list[tuple[float, float]]:
    """What the paper reports for the same setting, on the same data set: x and value."""
    first, shown = found.runs.iloc[0], set()
    for one in matching(task=first["task"], data=first["data"], split=first["split"], metric=metric.name):
        like = [bool(one.experiment) and fits(one, run.experiment, run.config) for run in found.runs.itertuples()]
        shown |= {(float(x), one.value) for x in found.runs["x"][like]}
    return sorted(shown)


def draw_time(folder: Path, runs: pd.DataFrame) -> list[Path]:
    """`training_time_<task>_<data>.png`: each method's quality against the minutes that it trained."""
    written = []
    for registry, same in runs.groupby("registry"):
        names = [metric.name for metric in metrics_of(registry, shown_metrics(registry)[:3])]
        table = make_table(same, metrics=names, group=[keys.ALL], costs=True)
        for label in table.runs["column"].unique():
            at = {column.metric.name: n for n, column in enumerate(table.columns) if column.label == label}
            minutes = {row: table.entry(row, at["train_minutes"]).mean for row in table.rows}
            minutes = {row: value for row, value in minutes.items() if value > 0}
            if len(minutes) < 2:
                continue
            series: dict[str, list[str]] = {}  # a method, by its settings: minutes, epochs
            for row in sorted(minutes, key=minutes.get):
                series.setdefault(row.partition(" (")[0], []).append(row)
            fig, axes = panels(len(names))
            for ax, name in zip(axes, names, strict=True):
                for n, ((method, ones), color) in enumerate(
                    zip(series.items(), level_colors(len(series)), strict=True)
                ):
                    x, points = zip(*((minutes[row], table.entry(row, at[name])) for row in ones), strict=True)
                    mean, sd = zip(*((one.mean, one.sd if one.n > 1 else np.nan) for one in points), strict=True)
                    ax.errorbar(x, mean, sd, color=color, marker=MARKERS[n % len(MARKERS)], ls="-", label=method)
                _floors(ax, {row: table.entry(row, at[name]).mean for row in FLOORS if table.entry(row, at[name]).n})
                ax.set(xlabel="minutes of training", title=_title(table.columns[at[name]].metric))
                if max(minutes.values()) > 5 * min(minutes.values()):
                    ax.set_xscale("log")
                    ax.xaxis.set_major_formatter("{x:g}")
            legend_below(fig, axes)
            devices = sorted(filter(None, set(same["device"])))
            fig.suptitle("; ".join([f"{label}, mean over seeds", *devices]), fontsize=9)
            written.append(save(fig, folder / f"training_time_{registry}_{slug(label)}.png"))
    return written
