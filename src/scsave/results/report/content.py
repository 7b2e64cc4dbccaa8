"""What the report is about: the runs, what was to be run, the study of the protocols."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from scsave.errors import UserError
from scsave.results.collect import Result
from scsave.results.protocol_study import Study
from scsave.results.report.html import Html, code, link

DONE = "done"


@dataclass(frozen=True)
class Job:
    """One run that a reproduction planned."""

    experiment: str
    seed: int | None
    folder: str
    status: str  # done, failed, missing (its data can't be had), pending, running
    reason: str
    seconds: float | None
    command: str


@dataclass(frozen=True)
class Plan:
    """One reproduction: its name, and the file that says how far it came."""

    name: str
    path: Path
    jobs: list[Job]


@dataclass
class Content:
    """Everything that the sections read. `root` is the folder that paths are shown relative to."""

    results: list[Result]
    made: datetime
    root: Path
    damaged: list[str] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)
    study: Study | None = None
    study_command: str = ""
    no_study: str = ""  # why there is none
    figures: list[Path] = field(default_factory=list)  # pictures that are of no single run
    command: str = "make report"

    def shown(self, path: Path | str) -> str:
        """A path as the reader of this repository would type it."""
        try:
            return str(Path(path).resolve().relative_to(self.root.resolve()))
        except ValueError:
            return str(path)


def run_id(result: Result) -> str:
    """The anchor of a run on the page: unique, and the same every time the report is made."""
    return f"run-{hashlib.sha256(str(result.path).encode()).hexdigest()[:10]}"


def run_link(result: Result, text: object | None = None) -> Html:
    return link(run_id(result), code(result.config_hash) if text is None else text)


def read_plan(path: Path) -> Plan:
    """A `state.json` of a reproduction. UserError if it is damaged."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        jobs = content["jobs"] if isinstance(content, dict) else content
        return Plan(path.parent.name, path, [_job(one) for one in jobs])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: can't be read as the state of a reproduction ({error}); run it again") from None


def _job(one: dict[str, Any]) -> Job:
    return Job(
        experiment=str(one.get("experiment") or ""),
        seed=one.get("seed"),
        folder=str(one.get("folder") or ""),
        status=str(one["status"]),
        reason=str(one.get("reason") or ""),
        seconds=one.get("seconds"),
        command=str(one.get("command") or ""),
    )
