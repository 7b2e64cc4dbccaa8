"""The look of every picture, and pictures over many runs: curves over one setting, quality against training time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from scsave import keys
from scsave.files import slug
from scsave.metrics.registry import rows as registry_rows
from scsave.metrics.row import Metric
from scsave.results.comparable import comparable, differing, told, variant
from scsave.results.frame import values
from scsave.results.paper import fits, matching
from scsave.results.table import COSTS, cost_rows, cost_values, role
from scsave.results.tables import make_table, shown_metrics

REAL, GENERATED, OTHER = "#4C72B0", "#DD8452", "#8C8C8C"
MARKERS = "osD^vPX*<>dph8"
FLOORS = ("real", "ceiling")
_ALSO: list[str] = []  # further endings that `save` writes, set by `formats`
_RC = {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9, "axes.titlesize": 9, "figure.dpi": 110}


def figure(rows: int, columns: int, width: float, height: float):
    """A figure without a screen and its axes (rows, columns); `width` and `height` are of one panel, in inches.

    At most about 7 inches wide in all, so that it can be read at 600 pixels.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update(_RC)
    return plt.subplots(rows, columns, figsize=(columns * width, rows * height), layout="constrained", squeeze=False)


def panels(n: int, width: float = 3.4, height: float = 2.8, wrap: int = 2):
    """A figure of `n` panels, `wrap` beside each other, and the panels in a list."""
    fig, axes = figure(-(-n // wrap), min(n, wrap), width, height)
    for ax in axes.flat[n:]:
        ax.axis("off")
    return fig, list(axes.flat[:n])


def level_colors(n: int) -> list:
    """Colours of `n` levels, told apart up to 20: up to ten by the colour-blind too, then dark ones before pale ones."""
    import seaborn as sns

    if n <= 10:
        return sns.color_palette("colorblind", n)
    pairs = sns.color_palette("tab20", 20)
    return [*pairs[::2], *pairs[1::2]][:n] if n <= 20 else sns.husl_palette(n)


def legend_below(fig, axes: Sequence, title: str = "") -> None:
    """One legend for all panels, below them."""
    handles = {label: h for ax in axes for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    for ax in axes:
        if ax.get_legend():
            ax.get_legend().remove()
    longest = max(map(len, handles), default=1)
    ncols = max(1, min(len(handles), 90 // (longest + 6)))
    fig.legend(
        handles.values(), handles, loc="outside lower center", ncols=ncols, frameon=False, fontsize=8, title=title
    )


@contextmanager
def formats(*endings: str) -> Iterator[None]:
    """Within it every picture is written with these endings too: `with formats(".pdf")`."""
    before, _ALSO[:] = list(_ALSO), endings
    try:
        yield
    finally:
        _ALSO[:] = before


def save(fig, path: Path) -> Path:
    """Writes the picture, each file whole or not at all; returns `path`."""
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    for target in (path, *(path.with_suffix(ending) for ending in _ALSO)):
        partial = target.with_name(f"{target.stem}.partial{target.suffix}")
        fig.savefig(partial, dpi=150)
        os.replace(partial, target)
    plt.close(fig)
    return path


@dataclass(frozen=True)
class Sweep:
    """A picture over one setting: its config key, what the axis says, and the metrics and costs that it trades off."""

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
    known, costs = registry_rows(registry), cost_rows(registry)
    metrics = [name for name in names if name in known]
    shown = metrics if len(metrics) > 1 else list(shown_metrics(registry))
    return [(known | costs)[name] for name in dict.fromkeys([*shown, *(name for name in names if name in costs)])]


@dataclass
class Curves:
    """Lines over one setting in one column of a table."""

    label: str
    runs: pd.DataFrame
    lines: pd.DataFrame  # a line a value: series (what tells the lines apart), x, seed, metric, value, run
    floors: pd.Series  # (row, metric) -> mean over seeds of the floor and the ceiling


def curves(runs: pd.DataFrame, key: str, metrics: Sequence[Metric]) -> list[Curves]:
    """Every column of a table with runs that differ in the numeric setting `key` alone, at two values of it or more.

    Of two runs of one setting and seed a training counts before its evaluation, and the newer.
    """
    names = [metric.name for metric in metrics if metric.name not in COSTS]
    runs, _ = comparable(runs, names)
    found = []
    for label, same in runs.groupby("column", sort=False):
        flat = variant(same)
        swept = [one for one in flat if one.endswith(f".{key}")]
        numeric = [isinstance(x, int | float) and not isinstance(x, bool) for x in flat[swept[0]]] if swept else []
        if not any(numeric):
            continue
        rest = flat.drop(columns=swept)
        same = same.assign(x=flat[swept[0]], line=rest.map(str).agg("\n".join, axis=1), first=same["mode"] == "train")[
            numeric
        ]
        kept = same.sort_values(["first", "written"], ascending=False).drop_duplicates(["line", "x", "seed"])
        kept = kept[kept.groupby("line")["x"].transform("nunique") > 1]
        if kept.empty:
            continue
        shown = differing(rest.loc[kept.index])
        kept = kept.assign(series=[told(rest.loc[path], shown) or kept.at[path, "method"] for path in kept.index])
        protocol = kept["headline"].iloc[0]
        scores = values(same, protocol, [keys.ALL], names).join(same["seed"], on="run")
        own = (
            pd.concat([scores, cost_values(kept)])
            .drop(columns="seed")
            .join(kept[["series", "x", "seed", "method"]], on="run")
        )
        own = own[(own["row"] == own["method"]) & own["metric"].isin([metric.name for metric in metrics])]
        floors = scores[scores["row"].isin(FLOORS)].drop_duplicates(["row", "metric", "seed"])
        lines = own.astype({"x": float}).sort_values(["series", "x"])
        found.append(Curves(label, same, lines, floors.groupby(["row", "metric"])["value"].mean().dropna()))
    return found


def draw_sweep(folder: Path, name: str, sweep: Sweep, runs: pd.DataFrame) -> list[Path]:
    """`<name>_<task>_<data>.png` for each data set that has such runs of SAVE."""
    written = []
    for registry, same in runs[runs["method"] == "save"].groupby("registry"):
        metrics = metrics_of(registry, sweep.metrics)
        for found in curves(same, sweep.key, metrics):
            written.append(_curves(folder / f"{name}_{registry}_{slug(found.label)}.png", found, sweep, metrics))
    return written


def _curves(path: Path, found: Curves, sweep: Sweep, metrics: list[Metric]) -> Path:
    import seaborn as sns

    fig, axes = panels(len(metrics))
    names = list(dict.fromkeys(found.lines["series"]))
    look = {"palette": level_colors(len(names)), "markers": list(MARKERS[: len(names)]), "dashes": False}
    for ax, metric in zip(axes, metrics, strict=True):
        lines = found.lines[found.lines["metric"] == metric.name]
        sns.lineplot(
            lines, x="x", y="value", hue="series", style="series", hue_order=names, style_order=names, errorbar="sd",
            err_style="bars", ax=ax, **look,
        )  # fmt: skip
        _floors(ax, found.floors.xs(metric.name, level="metric") if metric.name in found.floors.index.levels[1] else {})
        _paper(ax, found, metric)
        ticks = sorted(found.lines["x"].unique())
        ax.set(xscale="log" if sweep.logarithmic else "linear", xlabel=sweep.axis, ylabel="", title=_title(metric))
        ax.set_xticks(ticks, [f"{x:g}" for x in ticks])
        ax.minorticks_off()
        ax.margins(y=0.12)
    legend_below(fig, axes)
    seeds = ", ".join(map(str, sorted(found.runs["seed"].unique())))
    fig.suptitle(f"{found.runs['task'].iloc[0]} on {found.label}, seeds: {seeds}", fontsize=9)
    return save(fig, path)


def _title(metric: Metric) -> str:
    return metric.label if metric.name in COSTS else f"{metric.label} {metric.arrow}"


def _floors(ax, floors: pd.Series | dict) -> None:
    for (row, value), dash in zip(floors.items(), ("--", "-."), strict=False):
        ax.axhline(value, color=REAL, lw=1, ls=dash, label=f"{row} ({role(row)})" if role(row) != row else row)


def _paper(ax, found: Curves, metric: Metric) -> None:
    """What the paper reports for the same setting, on the same data set."""
    first, shown = found.runs.iloc[0], set()
    for one in matching(task=first["task"], data=first["data"], split=first["split"], metric=metric.name):
        like = [one.experiment and fits(one, run.experiment, run.config) for run in found.runs.itertuples()]
        shown |= {(float(x), one.value) for x in found.runs["x"][like]}
    if shown:
        ax.plot(*zip(*sorted(shown), strict=True), color=OTHER, marker="s", ms=4, lw=1, ls=":", label="paper")


def draw_time(folder: Path, runs: pd.DataFrame) -> list[Path]:
    """`training_time_<task>_<data>.png`: each method's quality against the minutes that it trained."""
    written = []
    for registry, same in runs.groupby("registry"):
        names = [metric.name for metric in metrics_of(registry, shown_metrics(registry)[:3])]
        table = make_table(same, metrics=names, group=[keys.ALL], costs=True)
        for label in dict.fromkeys(column.label for column in table.columns):
            at = {column.metric.name: n for n, column in enumerate(table.columns) if column.label == label}
            minutes = {row: table.entry(row, at["train_minutes"])["mean"] for row in table.rows}
            minutes = {row: value for row, value in minutes.items() if value > 0}
            if len(minutes) > 1:
                fig, axes = panels(len(names))
                for ax, name in zip(axes, names, strict=True):
                    for n, (row, x) in enumerate(minutes.items()):
                        entry, color = table.entry(row, at[name]), level_colors(len(minutes))[n]
                        sd = entry["sd"] if entry["n"] > 1 else None
                        ax.errorbar(
                            x, entry["mean"], sd, color=color, marker=MARKERS[n % len(MARKERS)], ls="", label=row
                        )
                    _floors(
                        ax,
                        {row: table.entry(row, at[name])["mean"] for row in FLOORS if table.entry(row, at[name])["n"]},
                    )
                    ax.set(xlabel="minutes of training", title=_title(table.columns[at[name]].metric))
                    if max(minutes.values()) > 5 * min(minutes.values()):
                        ax.set_xscale("log")
                        ax.xaxis.set_major_formatter("{x:g}")
                    ax.margins(0.12)
                legend_below(fig, axes)
                devices = ", ".join(sorted({device for device in table.runs["device"] if device}))
                fig.suptitle(f"{label}, mean over seeds; {devices}", fontsize=9)
                written.append(save(fig, folder / f"training_time_{registry}_{slug(label)}.png"))
    return written
