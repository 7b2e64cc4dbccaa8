"""A report of hand-made runs, and what a reader's browser would say of its HTML."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image
from scsave.results.collect import collect
from scsave.results.report.content import Content, read_plan

from scsave.metrics.row import CFGEN_LEGACY, PROTOCOLS
from scsave.results.protocol_study import REAL, Seen, Study

from .written import write

NASTY = "<script>alert(1)</script> & \"quotes\" 'here'"
VOID = {"img", "br", "meta", "link", "hr", "col", "input"}


def study() -> Study:
    """Twenty cells, an offset in the last protocol."""
    rng = np.random.default_rng(0)

    def points(protocol: str, sample: bool) -> list[list[float]]:
        return (rng.normal(size=(20, 2)) + 5.0 * (sample and protocol == CFGEN_LEGACY)).round(3).tolist()

    def seen(protocol: str) -> Seen:
        far = protocol == CFGEN_LEGACY
        return Seen(points(protocol, True), [2.0, 1.0, 0.5], 9.0 if far else 3.0, 0.5, 7.1 if far else 0.1)

    return Study(
        data="toy",
        source="",
        rows=[REAL, "pca_gaussian"],
        train_cells=30,
        test_cells=20,
        components=dict.fromkeys(PROTOCOLS, 3),
        seen={p: {REAL: seen(p), "pca_gaussian": seen(p)} for p in PROTOCOLS},
        test={p: {"points": points(p, False), "spread": [2.0, 1.1, 0.6]} for p in PROTOCOLS},
        repeats={p: {"w1": [3.1, 2.9], "c2st": [0.4, 0.6]} for p in PROTOCOLS},
    )


def picture(path: Path, width: int = 300) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGBA", (width, 80), (200, 30, 30, 120)).save(path)


def job(experiment: str, overrides: list[str], **more: object) -> dict[str, object]:
    """An entry of a reproduction's state."""
    command = " ".join(["python train.py", *overrides])
    entry = {
        "experiment": experiment,
        "overrides": overrides,
        "seed": 0,
        "folder": "outputs/scsave0",
        "command": command,
    }
    return entry | {"reason": None, "seconds": None} | more


def content(folder: Path) -> Content:
    """Three methods, two seeds, a damaged file, a plan with a failure and a missing data set, texts that want escaping."""
    outputs = folder / "outputs"
    metrics = {"real": {"w1": 1.0, "c2st_auc": 0.51}, "mean": {"w1": 0.9, "c2st_auc": 1.0}}
    for seed in (0, 1):
        own = {"scsave": {"w1": 2.0 + seed, "c2st_auc": 0.6}}
        others = {"protocols": {"cfgen": {"scsave": {"w1": 5.0}, "real": {"w1": 4.0}}}} if seed else {}
        write(
            outputs / f"scsave{seed}",
            metrics | own,
            seed=seed,
            split_hash=f"{seed}" * 64,
            config_hash=f"aaaaaaaaa{seed}",
            command=f"python train.py data=toy seed={seed} 'note={NASTY}'",
            device="cpu <x86>",
            versions={"torch": "2.9"},
            git_commit="0123456789" * 4 + "+",
            **others,
        )
    pca = {"pca_gaussian": {"w1": 4.25, "c2st_auc": 0.75}}
    write(outputs / "pca", metrics | pca, method="pca_gaussian", split_hash="0" * 64, config_hash="bbbbbbbbbb")
    for name, width in (("umap", 300), ("genes", 2000), ("type_A_means", 300), ("violins", 300), ("loss", 300)):
        picture(outputs / "scsave0" / "figures" / f"{name}.png", width)
    picture(outputs / "figures" / "block_size_generation_toy.png")
    picture(outputs / "figures" / "cells_toy_pca_gaussian" / "umap.png")
    (outputs / "broken").mkdir()
    (outputs / "broken" / "results.json").write_text("{")
    jobs = [
        job("paper/toy", ["experiment=paper/toy"], status="done", seconds=95.0),
        job("paper/toy", ["seed=1"], status="failed", reason=NASTY),
        job("paper/far", [], status="missing", reason="not run: dataset missing"),
    ]
    state = outputs / "reproduce" / "small" / "state.json"
    state.parent.mkdir(parents=True)
    state.write_text(json.dumps({"schema": 1, "jobs": jobs}))
    damaged: list[str] = []
    return Content(
        results=collect([outputs], damaged=damaged),
        made=datetime(2026, 1, 2, tzinfo=UTC),
        root=folder,
        damaged=damaged,
        plans=[read_plan(state)],
        study=study(),
        study_command="python scripts/make_report.py outputs",
        figures=sorted((outputs / "figures").rglob("*.png")),
    )


class Page(HTMLParser):
    """What is on a page. AssertionError where a tag is not closed in order."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.text: list[str] = []
        self.parents: list[tuple[str, ...]] = []
        self.feed(text)
        self.close()
        assert self.open == [], f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice"
        self.tags.append((tag, dict(attrs)))
        self.parents.append(tuple(self.open))
        if dict(attrs).get("id") is not None:
            self.ids.append(dict(attrs)["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert tag not in VOID, f"</{tag}>"
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another"

    def handle_data(self, data):
        self.text.append(data)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.tags if tag == name]
