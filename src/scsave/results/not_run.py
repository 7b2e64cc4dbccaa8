"""What a reproduction meant to run and did not: read from its state.json, so that a table names its gaps."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scsave.errors import UserError
from scsave.results.paper import reported

PATTERN = "reproduce/*/state.json"  # below an outputs folder (docs/reproducing.md)
STATUS = {"missing": "not run", "failed": "failed", "pending": "not run yet", "running": "not finished yet"}


@dataclass(frozen=True)
class NotRun:
    """Jobs of one experiment, data set and method that have one reason."""

    experiment: str
    task: str
    data: str
    method: str
    seeds: str
    why: str  # `not run: dataset missing: ...`
    paper: str  # what the paper reports for SAVE there


def not_run(folders: Iterable[Path]) -> list[NotRun]:
    """Every job that is not done in the states below `folders`, in their order. UserError for a state that can't be read."""
    found: dict[tuple[str, str, str, str, str], list[int]] = {}
    for path in sorted({path for folder in folders if folder.is_dir() for path in folder.glob(PATTERN)}):
        for job in _jobs(path):
            if (status := STATUS.get(str(job.get("status")))) is None:
                continue
            reason = f": {job['reason']}" if job.get("reason") else ""
            names = [str(job.get(key) or "") for key in ("experiment", "task", "data", "method")]
            found.setdefault((*names, status + reason), []).append(int(job.get("seed") or 0))
    return [
        NotRun(experiment, task, data, method, ",".join(map(str, sorted(set(seeds)))), why, _paper(task, data))
        for (experiment, task, data, method, why), seeds in found.items()
    ]


def _jobs(path: Path) -> list[dict[str, Any]]:
    try:
        jobs = json.loads(path.read_text(encoding="utf-8"))["jobs"]
        return [dict(job) for job in jobs]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: can't be read as the state of a reproduction ({error!r}); remove it") from None


def _paper(task: str, data: str) -> str:
    numbers = [one for one in reported() if (one.task, one.data, one.method) == (task, data, "SAVE")]
    splits = {one.split for one in numbers}
    return ", ".join(
        f"{one.metric} {one.value:.2f}" + (f" ({one.split})" if len(splits) > 1 else "") for one in numbers
    )
