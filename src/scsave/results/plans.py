"""What a reproduction planned, and what of it has no result and why: read from the state.json that it keeps."""

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from scsave.errors import UserError
from scsave.results.paper import reported

PATTERN, DONE = "reproduce/*/state.json", "done"  # below an outputs folder (docs/reproducing.md)
WORDS = {"missing": "not run", "failed": "failed", "pending": "not run yet", "running": "not finished yet"}
TEXTS = ("experiment", "task", "data", "method", "status", "reason", "folder", "command")


def read_jobs(folders: Iterable[Path | str], damaged: list[str] | None = None) -> pd.DataFrame:
    """One line for each job of each plan below `folders`: plan (its name), path (its file), what the state says of it.

    UserError for a state that can't be read; where `damaged` is given, its line goes there.
    """
    jobs = []
    for path in sorted({path for folder in folders for path in Path(folder).glob(PATTERN)}):
        try:
            for job in json.loads(path.read_text(encoding="utf-8"))["jobs"]:
                texts = {key: str(job.get(key) or "") for key in TEXTS} | {"status": job["status"]}
                jobs.append({"plan": path.parent.name, "path": str(path), "seed": int(job.get("seed") or 0)} | texts)
                jobs[-1]["seconds"] = float(job.get("seconds") or 0)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            line = f"{path}: can't be read as the state of a reproduction ({error!r}); run it again or remove it"
            if damaged is None:
                raise UserError(line) from None
            damaged.append(line)
    return pd.DataFrame(jobs, columns=["plan", "path", "seed", *TEXTS, "seconds"])


def not_run(jobs: pd.DataFrame) -> pd.DataFrame:
    """Jobs without a result that have one reason, a line each: experiment, task, data, method, why, seeds, and the paper's
    numbers for SAVE there."""
    gaps = jobs[jobs["status"].isin(list(WORDS))]
    gaps = gaps.assign(why=gaps["status"].map(WORDS) + gaps["reason"].map(lambda reason: reason and f": {reason}"))
    seeds = gaps.groupby(["experiment", "task", "data", "method", "why"], sort=False)["seed"]
    found = seeds.agg(lambda one: ",".join(map(str, sorted(set(one))))).rename("seeds").reset_index()
    return found.assign(paper=[_paper(one.task, one.data) for one in found.itertuples()])


def _paper(task: str, data: str) -> str:
    numbers = [one for one in reported() if (one.task, one.data, one.method) == (task, data, "SAVE")]
    several = len({one.split for one in numbers}) > 1
    return ", ".join(f"{one.metric} {one.value:.2f}" + (f" ({one.split})" if several else "") for one in numbers)
