"""Pictures of predicted genetic perturbations: single ones, groups by method, interactions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from scsave import keys
from scsave.metrics.registry import rows as metric_rows
from scsave.protocol import Outcome
from scsave.results.response_figures import apart
from scsave.results.style import GENERATED, OTHER, figure, save

SHOWN = ("pcc_delta_centroid", "l2_top1000", "discrimination", "energy")


def draw_genetic(folder: Path, outcome: Outcome) -> list[Path]:
    """`perturbations.png`, `groups.png`, and `interactions.png` where there are doubles with known singles."""
    written = [perturbations(folder / "perturbations.png", outcome), groups(folder / "groups.png", outcome)]
    if outcome.info["interactions"]:
        written.append(interactions(folder / "interactions.png", outcome))
    return written


def headline(outcome: Outcome) -> str:
    return next(iter(outcome.scores))


def perturbations(path: Path, outcome: Outcome) -> Path:
    """Predicted against real change of the best, median and worst perturbation of each group."""
    arrays, row = outcome.arrays, headline(outcome)
    names = [str(name) for name in arrays["perturbations"]]
    group_of = outcome.info["group_of"]
    at = list(arrays["metrics"]).index("pcc_delta")
    quality = pd.Series(arrays[f"table/{row}"][:, at], index=names).fillna(-1)
    found = {}
    for group in sorted(set(group_of.values())) or [keys.ALL]:
        members = [name for name in names if group_of.get(name, keys.ALL) == group]
        found[group] = chosen(list(quality[members].sort_values(ascending=False).index))
    fig, axes = figure(len(found), 3, width=3.0, height=2.8)
    axes = np.asarray(axes).reshape(len(found), 3)
    for line, (group, shown) in zip(axes, found.items(), strict=True):
        for ax, what in zip(line, ("best", "median", "worst"), strict=True):
            if what not in shown:
                ax.axis("off")
                continue
            name = shown[what]
            p = names.index(name)
            x, y = arrays["truth"][p], arrays[f"change/{row}"][p]
            ax.scatter(x, y, s=5, c=OTHER, linewidths=0)
            ends = [min(x.min(), y.min()), max(x.max(), y.max())]
            most, step = np.argsort(-np.abs(x))[:3], (ends[1] - ends[0]) / 16
            for gene, height in zip(most, apart(y[most], step), strict=True):
                side, align = (-0.4 * step, "right") if x[gene] > 0 else (0.4 * step, "left")
                name_at = (x[gene] + side, height)
                ax.annotate(arrays["panel"][gene], name_at, fontsize=6, va="center", ha=align)
            ax.plot(ends, ends, color="black", lw=0.5)
            title = f"{group}, {what} of {sum(group_of.get(n, keys.ALL) == group for n in names)}"
            ax.set(title=f"{title}\n{name} (r {quality[name]:.2f})", xlabel="real change of log1p", ylabel="predicted")
    return save(fig, path)


def chosen(ranked: list[str]) -> dict[str, str]:
    """Best, median and worst of a ranking, each perturbation once: a group of two has no median."""
    places = {"best": 0, "worst": len(ranked) - 1, "median": len(ranked) // 2}
    out: dict[str, str] = {}
    for what, at in places.items():
        if ranked[at] not in out.values():
            out[what] = ranked[at]
    return out


def groups(path: Path, outcome: Outcome) -> Path:
    """Mean and bootstrap 95% interval of every row, by group."""
    names = [group for group in next(iter(outcome.scores.values())) if outcome.info["counts"].get(group)]
    names = names[1:] if len(names) == 2 else names  # one group is all there is
    fig, axes = figure(len(names), len(SHOWN), width=3.1, height=2.5)
    axes = np.asarray(axes).reshape(len(names), len(SHOWN))
    rows, registry = list(outcome.scores), metric_rows("genetic")
    for line, group in zip(axes, names, strict=True):
        for ax, metric in zip(line, SHOWN, strict=True):
            for y, row in enumerate(rows):
                value = outcome.scores[row][group][metric]
                low, high = outcome.info["intervals"][row][group][metric]
                ax.barh(y, value, color=GENERATED if y == 0 else OTHER, alpha=0.8)
                if np.isfinite(low):
                    ax.plot([low, high], [y, y], color="black", lw=1)
            ax.set(title=f"{group}: {registry[metric].label} {registry[metric].arrow}", yticks=range(len(rows)))
            ax.set_yticklabels(rows if ax is line[0] else [])
            ax.invert_yaxis()
    return save(fig, path)


def interactions(path: Path, outcome: Outcome) -> Path:
    """Observed minus additive, predicted against real, over all doubles with known singles."""
    arrays, row = outcome.arrays, headline(outcome)
    known = ~np.isnan(arrays["additive"]).any(axis=1) & np.array(
        ["+" in n for n in arrays["perturbations"]], dtype=bool
    )
    x = (arrays["truth"] - arrays["additive"])[known].ravel()
    y = (arrays[f"change/{row}"] - arrays["additive"])[known].ravel()
    fig, ax = figure(1, 1, width=3.6, height=3.4)
    ax.scatter(x, y, s=4, c=OTHER, linewidths=0, alpha=0.5)
    ends = [min(x.min(), y.min()), max(x.max(), y.max())]
    ax.plot(ends, ends, color="black", lw=0.5)
    r = outcome.info["interactions"][row]
    ax.set(xlabel="real change minus additive", ylabel="predicted minus additive", title=f"interactions, r {r:.2f}")
    return save(fig, path)
