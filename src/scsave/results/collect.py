"""What results.json files lie below a folder, as plain typed values: what tables, figures and the report are made of."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from scsave import keys
from scsave.errors import UserError
from scsave.files import numbers

FILE = "results.json"
SCHEMA = 1  # the one that scsave.runs.record writes; that module would pull in more than reading needs
HEADLINE = "headline"  # the protocol of a task that has no others
Scores = dict[str, dict[str, dict[str, float]]]  # row -> group -> metric -> raw value
_NEEDED = ("task", "data", "method", "seed", "split", "split_hash", "config_hash", "config", "metrics", "registry")


@dataclass(frozen=True, kw_only=True)
class Result:
    """One results.json (docs/results.md); null became NaN in scores, stayed None elsewhere.

    `protocols` holds every protocol, the headline one among them and first.
    """

    path: Path
    task: str
    data: str
    method: str
    seed: int
    split: str
    split_hash: str
    config_hash: str
    config: dict[str, Any]
    registry: str  # task name of its rows in the metric registry
    headline: str  # name of the headline protocol
    protocols: dict[str, Scores]
    metric_versions: dict[str, int]
    experiment_name: str | None = None
    command: str = ""
    git_commit: str | None = None
    written: str = ""
    device: str = ""
    cells: int | None = None
    genes: int | None = None
    folds: list[str] = field(default_factory=list)
    cost: dict[str, Any] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the run's other files are (generated.h5ad, figures, config.yaml)."""
        return self.path.parent

    @property
    def precedence(self) -> tuple[bool, str]:
        """Of two runs of one setting and seed the greater counts: a training before its evaluation, the newer."""
        return self.config.get("mode", "train") == "train", self.written

    @property
    def metrics(self) -> Scores:
        """Scores in the headline protocol."""
        return self.protocols[self.headline]

    @property
    def own_rows(self) -> list[str]:
        """Rows of the run's method: its name, and `<name>_<route>` for routes beside the headline one."""
        return [row for row in self.metrics if row == self.method or row.startswith(f"{self.method}_")]

    @property
    def reference_rows(self) -> list[str]:
        """What the method is read against: floor, ceiling, no-skill rows, built-in baselines."""
        return [row for row in self.metrics if row not in self.own_rows]

    def value(self, row: str, metric: str, group: str = keys.ALL, protocol: str | None = None) -> float:
        """One raw score, NaN where the file has none."""
        scores = self.protocols.get(protocol or self.headline, {})
        return scores.get(row, {}).get(group, {}).get(metric, float("nan"))


def read_result(path: Path) -> Result:
    """One file. UserError names a file that is damaged, lacks a key, or has another schema."""
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: can't be read as results.json ({error}); remove it or run it again") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else type(content).__name__
        raise UserError(f"{path}: has schema {found}, this version reads {SCHEMA}; run it again")
    if missing := [key for key in _NEEDED if key not in content]:
        raise UserError(f"{path}: lacks {', '.join(missing)}; it is damaged or older than this version: run it again")
    try:
        return _result(path, content)
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{path}: a value is not what docs/results.md says ({error}); run it again") from None


def _result(path: Path, content: dict[str, Any]) -> Result:
    info = content.get("info") or {}
    headline = info.get("headline_protocol", HEADLINE)
    protocols = {headline: numbers(content["metrics"])} | numbers(content.get("protocols") or {})
    for scores in protocols.values():
        for groups in scores.values():
            for name, values in groups.items():
                groups[name] = {metric: float(value) for metric, value in values.items()}
    optional = ("experiment_name", "git_commit", "cells", "genes")
    texts, dicts = ("command", "written", "device"), ("cost", "model", "versions", "metric_versions")
    return Result(
        path=path,
        **{key: str(content[key]) for key in ("task", "data", "method", "split", "split_hash", "config_hash")},
        seed=int(content["seed"]),
        config=dict(content["config"]),
        registry=str(content["registry"]),
        headline=headline,
        protocols=protocols,
        info=info,
        folds=list(content.get("folds") or []),
        **({key: content.get(key) for key in optional} | {"experiment_name": _experiment(content)}),
        **{key: content.get(key) or "" for key in texts},
        **{key: dict(content.get(key) or {}) for key in dicts},
    )


def _experiment(content: dict[str, Any]) -> str | None:
    return content.get("experiment_name") or content["config"].get("experiment_name")


def collect(
    folders: Iterable[Path | str],
    *,
    task: str | Iterable[str] | None = None,
    data: str | Iterable[str] | None = None,
    method: str | Iterable[str] | None = None,
    experiment: str | Iterable[str] | None = None,
    seed: int | Iterable[int] | None = None,
    damaged: list[str] | None = None,
) -> list[Result]:
    """Every result below `folders` (or named itself) that fits, by path; each file once.

    Texts may have shell wildcards (`experiment="paper/*"`). UserError for a folder that is not there, and for a file
    that is damaged; where `damaged` is given, its line goes there instead and the file is left out.
    """
    found: dict[Path, Result] = {}
    for path in sorted({file.resolve(): file for folder in folders for file in _files(Path(folder))}.values()):
        try:
            found[path] = read_result(path)
        except UserError as error:
            if damaged is None:
                raise
            damaged.append(str(error))
    seeds = None if seed is None else {seed} if isinstance(seed, int) else set(seed)
    wanted = {"task": task, "data": data, "method": method, "experiment_name": experiment}
    return [
        result
        for result in found.values()
        if all(_fits(getattr(result, key), value) for key, value in wanted.items())
        and (seeds is None or result.seed in seeds)
    ]


def _files(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give one that holds runs (outputs/, or a part of it)")
    return sorted(folder.rglob(FILE))


def _fits(value: str | None, wanted: str | Iterable[str] | None) -> bool:
    if wanted is None:
        return True
    patterns = [wanted] if isinstance(wanted, str) else list(wanted)
    return value is not None and any(fnmatchcase(value, pattern) for pattern in patterns)
