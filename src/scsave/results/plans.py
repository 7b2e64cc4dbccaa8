"""What a reproduction planned, and what of it has no result and why: read from the state.json that it keeps."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from scsave.errors import UserError
from scsave.results.paper import reported

PATTERN = "reproduce/*/state.json"  # below an outputs folder (docs/reproducing.md)
DONE = "done"
WORDS = {"missing": "not run", "failed": "failed", "pending": "not run yet", "running": "not finished yet"}
JOB = ("experiment", "task", "data", "method", "seed", "status", "reason", "seconds", "folder", "command")
GAP = ("experiment", "task", "data", "method", "why")


def read_jobs(folders: Iterable[Path | str], damaged: list[str] | None = None) -> pd.DataFrame:
    """One line for each job of each plan below `folders`, as its state has it; `plan` is the plan's name, `path` its file.

    UserError for a state that can't be read; where `damaged` is given, its line goes there.
    """
    jobs: list[dict[str, Any]] = []
    for path in sorted({path for folder in folders for path in Path(folder).glob(PATTERN)}):
        try:
            found = json.loads(path.read_text(encoding="utf-8"))["jobs"]
            known = [{"plan": path.parent.name, "path": str(path), "status": job["status"]} | job for job in found]
            jobs += [{key: job.get(key) for key in ("plan", "path", *JOB)} for job in known]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            line = f"{path}: can't be read as the state of a reproduction ({error!r}); run it again or remove it"
            if damaged is None:
                raise UserError(line) from None
            damaged.append(line)
    return pd.DataFrame(jobs, columns=["plan", "path", *JOB], dtype=object)


def not_run(jobs: pd.DataFrame) -> pd.DataFrame:
    """Jobs without a result that have one reason, a line each: experiment, task, data, method, why, seeds, and the paper's
    numbers for SAVE there."""
    gaps = jobs[jobs["status"].isin(list(WORDS))].fillna({"reason": "", "seed": 0, **dict.fromkeys(JOB[:4], "")})
    gaps = gaps.assign(why=gaps["status"].map(WORDS) + gaps["reason"].map(lambda reason: reason and f": {reason}"))
    seeds = gaps.groupby(list(GAP), sort=False)["seed"].agg(
        lambda found: ",".join(map(str, sorted({*map(int, found)})))
    )
    found = seeds.rename("seeds").reset_index()
    return found.assign(paper=[_paper(one.task, one.data) for one in found.itertuples()])


def _paper(task: str, data: str) -> str:
    numbers = [one for one in reported() if (one.task, one.data, one.method) == (task, data, "SAVE")]
    several = len({one.split for one in numbers}) > 1
    return ", ".join(f"{one.metric} {one.value:.2f}" + (f" ({one.split})" if several else "") for one in numbers)
