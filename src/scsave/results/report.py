"""One HTML page of all runs: numbers between floor and ceiling, each led back to its run; no network, light and dark."""

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

from scsave import keys, progress
from scsave.files import slug
from scsave.metrics.registry import REGISTRY
from scsave.results.frame import weights_folder
from scsave.results.plans import DONE
from scsave.results.table_text import MISSING, data_text, entry_text, mark, paper_text, passed_line, row_label, verdict
from scsave.results.tables import Table, make_table, role, shown_metrics

WIDEST, PER_RUN = 1400, 4  # pixels of a picture, pictures of a run


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
    loader = PackageLoader("scsave.results", ".")
    made = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)

    def path(of: Path | str) -> str:
        """As the reader of this repository would type it."""
        here, root = Path(of).resolve(), content.root.resolve()
        return str(here.relative_to(root)) if here.is_relative_to(root) else str(of)

    made.filters |= {one.__name__: one for one in (path, prose, number, duration, anchor, image)}
    runs = content.runs.assign(id=[run_id(path) for path in content.runs.index])
    runs = runs.sort_values(["task", "data", "method", "seed"])
    made.globals |= {"role": role, "groups": lambda frame, *by: frame.groupby(list(by), sort=False, dropna=False)}
    return made.get_template("report.html.j2").render(
        content=content, frame=runs, runs=runs.to_dict("records"), metrics=list(REGISTRY.values()),
        results=[table for _, same in runs.groupby(["registry", "data"]) for table in tables(same)],
        pictures=pictures(content, runs),
        run_of={path(of(Path(run).parent)): id for run, id in runs["id"].items() for of in (Path, weights_folder)},
        left=content.jobs[content.jobs["status"] != DONE],
        versions=sorted({(name, version) for one in runs.get("versions", []) for name, version in one.items()}),
    )  # fmt: skip


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
        return MISSING
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.3g}"


def duration(seconds: float | None) -> str:
    """`95.0` is "1 min 35 s"."""
    return progress.duration(seconds) if seconds and seconds == seconds else MISSING


def tables(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """The tables of one data set: one for each column of comparable runs and each group, methods down, metrics across."""
    table = make_table(runs, metrics=["all"])
    parts = groupby(range(len(table.columns)), key=lambda n: table.columns[n][:2])
    return [_part(table, label, group, list(numbers)) for (label, group), numbers in parts]


def _part(table: Table, label: str, group: str, numbers: list[int]) -> dict[str, Any]:
    runs, known = table.runs[table.runs["column"] == label], table.values[table.values["value"].notna()]
    numbers = [n for n in numbers if n in set(known["number"])]  # a metric that no row has is no column
    known = known[known["number"].isin(numbers)].drop_duplicates(["label", "seed"]).sort_values("seed")
    more = {n: table.columns[n].metric.name not in shown_metrics(table.registry) for n in numbers}

    def cell(row: str, n: int) -> dict[str, Any]:
        text, paper = entry_text(table, row, n).replace(" (1)", "").split(" ["), paper_text(table, row, n)
        found = {"text": text[0], "interval": text[1:], "value": table.entry(row, n).mean, "mark": mark(table, row, n)}
        return found | {"paper": paper, "more": more[n]}

    verdicts = [said for n in numbers if not more[n] and (said := verdict(table, n))]
    rows = [
        {
            "name": row_label(table, row),
            "settings": table.settings.get(row, ""),
            "role": role,
            "cells": [cell(row, n) for n in numbers],
            "runs": [(one.seed, run_id(one.run)) for one in known[known["label"] == row].itertuples()],
        }
        for row, role in table.rows_of(numbers).items()
    ]
    return {
        "registry": table.registry,
        "id": anchor("table", table.registry, label, group),
        "title": label + (f", group {group}" if group != keys.ALL else ""),
        "about": data_text(runs) + f", protocol {table.protocol}" * bool(runs["scores"].map(len).max() > 1),
        "heads": [(table.columns[n].metric, more[n]) for n in numbers],
        "rows": rows,
        "verdict": [told.removeprefix(f"{label}, ").removeprefix(f"{group}, ") for told in verdicts],
        "notes": [*passed_line(table, numbers), *table.notes],
    }


def pictures(content: Content, runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Those over several runs first; then of each task, data set and split one run's, SAVE's where there is one."""
    found = []
    for folder, paths in groupby(sorted(content.figures, key=lambda p: (p.parent, p)), key=lambda p: p.parent):
        title = "" if folder.name == "figures" else folder.name.replace("_", " ", 1)
        found.append({"title": title, "paths": list(paths), "run": None, "more": 0})
    drawn = {path.parent.name for path in content.figures}
    shown: dict[tuple[str, ...], dict[str, Any]] = {}
    for run in sorted(runs.to_dict("records"), key=lambda run: run["method"] != "save"):
        paths = (Path(run["path"]).parent / "figures").glob("*.png")
        paths = sorted(paths, key=lambda path: ("_" in path.stem, path.name))
        if paths and not any(name.endswith(f"_{slug(run['data'])}_{run['method']}") for name in drawn):
            title = "{task} on {data} ({method}, split {split}, seed {seed})".format(**run)
            one = {"title": title, "run": run["id"], "paths": paths[:PER_RUN], "more": len(paths[PER_RUN:])}
            shown.setdefault((run["task"], run["data"], run["split"]), one)
    return [*found, *(shown[key] for key in sorted(shown))]


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
