"""A report of hand-made runs, and what a reader's browser would say of its HTML."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

from PIL import Image

from scsave.results.frame import read
from scsave.results.plans import read_jobs
from scsave.results.report import Content

from .written import write

NASTY = "<script>alert(1)</script> & \"quotes\" 'here'"
VOID = {"img", "br", "meta", "link", "hr", "col", "input"}


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
        "folder": "outputs/save0",
        "command": command,
    }
    return entry | {"reason": None, "seconds": None} | more


def content(folder: Path) -> Content:
    """Three methods, two seeds, a damaged file, a plan with a failure and a missing data set, texts that want escaping."""
    outputs = folder / "outputs"
    metrics = {"real": {"w1": 1.0, "c2st_auc": 0.51}, "mean": {"w1": 0.9, "c2st_auc": 1.0}}
    for seed in (0, 1):
        own = {"save": {"w1": 2.0 + seed, "c2st_auc": 0.6}}
        others = {"protocols": {"cfgen": {"save": {"w1": 5.0}, "real": {"w1": 4.0}}}} if seed else {}
        write(
            outputs / f"save{seed}",
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
        picture(outputs / "save0" / "figures" / f"{name}.png", width)
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
        runs=read([outputs], damaged=damaged),
        jobs=read_jobs([outputs], damaged),
        made=datetime(2026, 1, 2, tzinfo=UTC),
        root=folder,
        damaged=damaged,
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
