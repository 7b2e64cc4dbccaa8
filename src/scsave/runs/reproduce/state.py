"""outputs/reproduce/<name>/state.json: what became of every job. Tables and the report read it too (docs/reproducing.md)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scsave.files import write_json
from scsave.runs.reproduce.jobs import Job

SCHEMA = 1
FOLDER, FILE = "reproduce", "state.json"
PENDING, RUNNING, DONE, FAILED, MISSING = "pending", "running", "done", "failed", "missing"
Entry = dict[str, Any]


class State:
    """One entry a job, in the order of `jobs`; saved whole, beside and renamed, after every change.

    Jobs of two experiments can be one and the same run (an ablation's default): they share a folder, and the status.
    """

    def __init__(self, path: Path, jobs: list[Job]):
        self.path = path
        before = read_state(path)
        self.published: str | None = before.get("published")
        self.missing: dict[str, str] = {}  # what can't be had, and why: each said once
        old = {(entry["experiment"], entry["hash"]): entry for entry in before.get("jobs", [])}
        self.entries: dict[tuple[str, str], Entry] = {}
        for job in jobs:
            key = job.experiment, job.hash
            self.entries[key] = _kept(old.get(key, {})) | {
                "experiment": job.experiment,
                "overrides": list(job.overrides),
                "seed": job.seed,
                "task": job.cfg.task.name,
                "data": job.cfg.data.name,
                "method": job.method,
                "folder": str(job.folder),
                "hash": job.hash,
                "command": job.command,
            }

    def of(self, job: Job) -> Entry:
        return self.entries[job.experiment, job.hash]

    def sharing(self, job: Job) -> Iterator[Entry]:
        """The entries of every experiment that has this run."""
        return (entry for (_, digest), entry in self.entries.items() if digest == job.hash)

    def set(self, job: Job, status: str, **more: Any) -> None:
        for entry in self.sharing(job):
            entry.update({"status": status, "reason": None} | more)

    def save(self) -> None:
        write_json(
            self.path,
            {
                "schema": SCHEMA,
                "written": datetime.now(UTC).isoformat(timespec="seconds"),
                "published": self.published,
                "missing": self.missing,
                "jobs": list(self.entries.values()),
            },
        )

    def count(self) -> Counter[str]:
        return Counter(entry["status"] for entry in self.entries.values())


def _kept(old: Entry) -> Entry:
    """What a new call keeps of a job's entry: a run that was running when the driver died is pending again."""
    status = old.get("status", PENDING)
    names = ("seconds", "cpu_seconds", "reason", "log", "killed", "resumed")
    return {name: old.get(name) for name in names} | {
        "status": PENDING if status in (RUNNING, MISSING, DONE) else status
    }


def read_state(path: Path) -> dict[str, Any]:
    """What the file says; nothing where there is none, or half of one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if found.get("schema") == SCHEMA else {}


def states(outputs: Path) -> dict[str, dict[str, Any]]:
    """Name -> state of every reproduction below an outputs folder."""
    found = {path.parent.name: read_state(path) for path in sorted((outputs / FOLDER).glob(f"*/{FILE}"))}
    return {name: state for name, state in found.items() if state}
