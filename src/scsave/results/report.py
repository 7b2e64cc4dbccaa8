"""One HTML page of all runs: numbers between floor and ceiling, each led back to its run; no network, light and dark."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from scsave import keys
from scsave.files import slug
from scsave.metrics.registry import REGISTRY
from scsave.results.plans import DONE
from scsave.results.table import Table, role
from scsave.results.table_formats import mark
from scsave.results.table_text import (
    CEILING_PASSED,
    MISSING,
    PASSED,
    data_line,
    entry_text,
    paper_text,
    row_label,
    verdict,
)
from scsave.results.tables import make_table, shown_metrics

WIDEST, PER_RUN = 1400, 4  # pixels of a picture, pictures of a run
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
    "ceiling": "one random half of the real cells predicts the other: as good as the noise of half the cells allows",
    "unintegrated": "PCA of the uncorrected cells: what no correction gives",
    "mean": "every cell the mean of its conditions' training cells: no variation at all",
    "no_change": "the control cells themselves: no response at all",
    "pooled_control": "control cells whose mean is pooled with training's: no response, from a better known start",
    "perturbed_mean": "the mean over all training perturbations, whatever is asked",
}
# Stem of a picture's file, or its end behind the name of a cell type -> what it shows.
PICTURES = {
    "umap": "UMAPs of the cells, those that a panel is not about in grey",
    "genes": "each gene's mean, variance and share of zeros, generated against real",
    "violins": "library size or genes that matter, a violin a sample of cells",
    "loss": "training and validation loss of each stage against the step",
    "types": "scores of every held-out cell type, each method between the no-skill rows and the ceiling",
    "means": "change of gene means, predicted against real, the genes that change most named",
    "perturbations": "predicted against real change, best, median and worst perturbation of each group",
    "groups": "scores by group of perturbations with bootstrap 95% intervals, method beside baselines and ceiling",
    "interactions": "double perturbations, departure of the change from the sum of the singles, predicted against real",
    "attention": "which gene blocks look at which, and how levels of a condition change that",
    "guidance": "quality against the guidance weight, beside the noise floor",
    "sampling_steps": "quality against the number of sampling steps, beside the noise floor",
    "block_size": "quality and training time against the size of a block",
    "training_time": "quality of each method against the minutes that it trained",
}
COSTS = {
    "parameters": "Parameters",
    "steps": "Steps",
    "seconds_fit": "Fit, s",
    "seconds_sample": "Sample, s",
    "cells_per_second_sample": "Cells/s sampled",
    "seconds_total": "Whole run, s",
    "peak_rss_mb": "Peak memory, MB",
    "peak_device_mb": "Peak device memory, MB",
}


@dataclass
class Content:
    """What the page is made of. `root` is the folder that paths are shown relative to."""

    runs: pd.DataFrame  # scsave.results.frame.read
    jobs: pd.DataFrame  # scsave.results.plans.read_jobs
    made: datetime
    root: Path
    damaged: list[str] = field(default_factory=list)
    figures: list[Path] = field(default_factory=list)  # pictures that are of no single run
    command: str = "make report"


def page(content: Content) -> str:
    """The HTML of the report."""
    environment = Environment(
        loader=PackageLoader("scsave.results", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=StrictUndefined,
    )  # fmt: skip

    def path(of: Path | str) -> str:
        """As the reader of this repository would type it."""
        here, root = Path(of).resolve(), content.root.resolve()
        return str(here.relative_to(root)) if here.is_relative_to(root) else str(of)

    environment.filters |= {"path": path, "prose": prose, "number": number, "image": image}
    environment.filters["anchor_metric"] = lambda key: anchor("metric", key)
    environment.filters["resolved"] = lambda folder: str((content.root / folder).resolve())
    runs = content.runs.assign(id=[run_id(path) for path in content.runs.index])
    return environment.get_template("report.html.j2").render(
        content=content,
        runs=[run for _, run in runs.sort_values([*("task", "data", "method", "seed")]).iterrows()],
        table_rows=[[f"`{row}`", role(row), what] for row, what in ROWS.items()],
        tasks={row.task: TASKS.get(row.task, row.task.replace("_", " ").capitalize()) for row in REGISTRY.values()},
        metrics=list(REGISTRY.values()),
        results=results(runs),
        overview=overview(runs),
        costs=costs(runs),
        cost_names=COSTS,
        machines=machines(runs),
        versions=versions(runs),
        missing=missing(content.jobs),
        done=DONE,
        run_of={str((content.root / Path(path).parent).resolve()): id for path, id in runs["id"].items()},
        pictures=pictures(content, runs),
    )


def run_id(path: str) -> str:
    """The anchor of a run on the page: unique, and the same every time the report is made."""
    return f"run-{hashlib.sha256(path.encode()).hexdigest()[:10]}"


def anchor(*names: object) -> str:
    """An id for a page out of names: `anchor("metric", "generation/w1")` is "metric-generation-w1"."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(map(str, names)).lower()).strip("-")


def prose(text: object) -> Markup:
    """Text with what stands between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def number(value: Any) -> str:
    """Thousands with commas, three digits otherwise; "–" for what is not there."""
    if not isinstance(value, int | float) or value != value:
        return MISSING if value is None or value != value else str(value)
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.3g}"


def duration(seconds: float | None) -> str:
    """`95.0` is "1 min 35 s"."""
    if not seconds or seconds != seconds:
        return MISSING
    found = [(int(seconds // 3600), "h"), (int(seconds // 60 % 60), "min"), (round(seconds % 60), "s")]
    return " ".join([f"{n} {unit}" for n, unit in found if n][:2]) or "0 s"


def results(runs: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Registry -> its tables: one for each data set and group, methods down, every metric across."""
    found: dict[str, list[dict[str, Any]]] = {}
    for (registry, _), same in runs.groupby(["registry", "data"]):
        table = make_table(same, metrics=["all"])
        parts = groupby(range(len(table.columns)), key=lambda n, t=table: (t.columns[n].label, t.columns[n].group))
        found.setdefault(TASKS.get(registry, registry.replace("_", " ").capitalize()), []).extend(
            _part(table, *place, list(numbers)) for place, numbers in parts
        )
    return found


def _part(table: Table, label: str, group: str, numbers: list[int]) -> dict[str, Any]:
    runs = table.runs[table.runs["column"] == label]
    values = table.values[table.values["number"].isin(numbers) & table.values["value"].notna()]
    numbers = [n for n in numbers if n in set(values["number"])]  # a metric that no row has is no column
    rows, shown = [], shown_metrics(table.registry)
    for row in table.rows_of(numbers):
        sources = values[values["label"] == row].drop_duplicates("seed").sort_values("seed")
        cells = [
            {
                "text": entry_text(table, row, n).replace(" (1)", ""),
                "value": table.entry(row, n)["mean"],
                "mark": mark(table, row, n),
                "paper": paper_text(table, row, n),
                "more": table.columns[n].metric.name not in shown,
            }
            for n in numbers
        ]
        name, of = row_label(table, row), [(run.seed, run_id(run.run)) for run in sources.itertuples()]
        rows.append(
            {"name": name, "settings": table.settings.get(row, ""), "role": table.rows[row], "cells": cells, "runs": of}
        )
    passed = list(dict.fromkeys(method for row in table.rows for n in numbers for method in table.passed(row, n)))
    heads = [(table.columns[n].metric, table.columns[n].metric.name not in shown) for n in numbers]
    where = [part for part in (label, group) if part]
    return {
        "id": anchor("table", table.registry, *where),
        "title": label + (f", group {group}" if group != keys.ALL else ""),
        "about": data_line(label, runs).split(": ", 1)[1],
        "protocol": table.protocol if runs["scores"].map(len).max() > 1 else "",
        "heads": heads,
        "rows": rows,
        "settings": any(row["settings"] for row in rows),
        "verdict": [verdict(table, n) for n, (_, more) in zip(numbers, heads, strict=True) if not more],
        "notes": [*table.notes, *([f"{PASSED} {', '.join(passed)} {CEILING_PASSED}"] if passed else [])],
    }


def overview(runs: pd.DataFrame) -> list[list[Any]]:
    found = []
    for (task, data, split), same in runs.groupby(["task", "data", "split"]):
        methods, seeds = (", ".join(map(str, sorted(same[key].unique()))) for key in ("method", "seed"))
        found.append([f"{task} on {data}", split, methods, seeds, len(same)])
    return found


def costs(runs: pd.DataFrame) -> list[list[Any]]:
    """Means over the runs of each task, data set, method and machine."""
    cost = pd.DataFrame(
        [{key: one.get(key) for key in COSTS} for one in runs.get("cost", [])], index=runs.index, dtype=float
    )
    groups = runs.fillna({"device": ""}).groupby(["task", "data", "method", "device"]) if len(runs) else []
    return [
        [", ".join(key[:3]), len(same), *(number(value) for value in cost.loc[same.index].mean())]
        for key, same in groups
    ]


def machines(runs: pd.DataFrame) -> list[list[Any]]:
    found = runs.reindex(columns=["device", "git_commit", "written"]).fillna(
        {"device": "unknown", "git_commit": "no repository"}
    )
    return [
        [
            device,
            commit[:12] + commit[40:],
            len(same),
            *(text[:16].replace("T", " ") for text in (same.min(), same.max())),
        ]
        for (device, commit), same in found.groupby(["device", "git_commit"])["written"]
    ]


def versions(runs: pd.DataFrame) -> list[list[str]]:
    found = pd.DataFrame(list(runs.get("versions", []))).apply(lambda column: sorted(set(column.dropna())))
    return sorted([name, ", ".join(one)] for name, one in found.items())


def missing(jobs: pd.DataFrame) -> list[dict[str, Any]]:
    """Each plan: how many of its runs are done, what has no result and why, and every run."""
    found = []
    for (name, path), same in jobs.groupby(["plan", "path"]):
        told = ", ".join(f"{n} {status}" for status, n in same["status"].value_counts().items())
        left = same[same["status"] != DONE].fillna({"reason": "", "experiment": MISSING})
        gaps = [
            [*key[:1], n, *key[1:]]
            for key, n in left.groupby(["experiment", "status", "reason"], sort=False).size().items()
        ]
        every = [job | {"took": duration(job["seconds"])} for job in same.to_dict("records")]
        found.append(
            {"name": name, "path": path, "told": f"{len(same)} runs planned: {told}", "gaps": gaps, "jobs": every}
        )
    return found


def pictures(content: Content, runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Those over several runs first; then of each task, data set and split one run's, SAVE's where there is one."""
    over = [path for path in content.figures if path.parent.name == "figures"]
    found = [{"title": "", "run": None, "paths": over, "more": 0}] if over else []
    inner = groupby([path for path in content.figures if path not in over], key=lambda path: path.parent)
    found += [
        {"title": of.name.replace("_", " ", 1), "run": None, "paths": list(paths), "more": 0} for of, paths in inner
    ]
    drawn = {path.parent.name for path in content.figures}
    shown: dict[tuple[str, ...], dict[str, Any]] = {}
    runs = runs.sort_values(["task", "data", "split", "method", "seed"])
    for run in sorted(runs.itertuples(), key=lambda run: run.method != "save") if len(runs) else []:
        paths = sorted(
            (Path(run.path).parent / "figures").glob("*.png"), key=lambda path: ("_" in path.stem, path.name)
        )
        if paths and not any(name.endswith(f"_{slug(run.data)}_{run.method}") for name in drawn):
            title = f"{run.task} on {run.data} ({run.method}, split {run.split}, seed {run.seed})"
            one = {"title": title, "run": run.id, "paths": paths[:PER_RUN], "more": len(paths[PER_RUN:])}
            shown.setdefault((run.task, run.data, run.split), one)
    found += [shown[key] for key in sorted(shown)]
    return [one | {"paths": [(path, what(path.stem)) for path in one["paths"]]} for one in found]


def what(stem: str) -> str:
    """What a picture of this name shows, in words."""
    for name, shown in PICTURES.items():
        if stem == name or stem.startswith(f"{name}_"):
            return shown
    of, _, kind = stem.rpartition("_")
    return f"{of.replace('_', ' ')}: {PICTURES[kind]}" if of and kind in PICTURES else stem.replace("_", " ")


def image(path: Path) -> dict[str, Any]:
    """The picture as lossy WebP, a fifth of the size, in a data URI: src, width and height in pixels."""
    from PIL import Image

    with Image.open(path) as picture:
        flat = picture.convert("RGBA")
    ground = Image.new("RGBA", flat.size, "white")
    ground.alpha_composite(flat)
    ground.thumbnail((WIDEST, 10 * WIDEST), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    ground.convert("RGB").save(file, "WEBP", quality=82, method=4)
    uri = f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
    return {"src": uri, "width": ground.width, "height": ground.height}
