"""Folds of a run: each leaves its scores in a file, so that an interrupted run goes on behind the last one that is done."""

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from scsave.files import numbers, write_json, write_npz
from scsave.progress import duration
from scsave.protocol import Outcome

FILE, ARRAYS = "fold.json", "fold.npz"


@dataclass
class Fold:
    """What a task made of one split, and what results.json says of method, split and cost."""

    outcome: Outcome
    record: dict[str, Any]


def write_fold(folder: Path, fold: Fold) -> None:
    """`fold.npz`, then `fold.json`: where the second is, the fold is whole."""
    outcome = fold.outcome
    write_npz(folder / ARRAYS, **outcome.arrays)
    kept = {name: getattr(outcome, name) for name in ("scores", "protocols", "info", "validation")}
    write_json(folder / FILE, kept | {"record": fold.record})


def read_fold(folder: Path) -> Fold | None:
    """The fold that `write_fold` left; None where there is none, or a damaged one, which is scored again."""
    if not (folder / FILE).is_file():
        return None
    try:
        stored = json.loads((folder / FILE).read_text(encoding="utf-8"))
        with np.load(folder / ARRAYS, allow_pickle=False) as arrays:
            outcome = Outcome(
                scores=numbers(stored["scores"]),
                protocols=numbers(stored["protocols"]),
                info=stored["info"],
                arrays=dict(arrays),
                validation=numbers(stored.get("validation", {})),
            )
        return Fold(outcome, stored["record"])
    except (OSError, ValueError, LookupError, TypeError, EOFError, BadZipFile):
        return None


def merged_record(records: list[dict[str, Any]]) -> dict[str, Any]:
    """One record of all folds: costs added up, peaks and sizes the largest, one hash over all splits."""
    first = records[0]
    if len(records) == 1:
        return dict(first)
    cost: dict[str, Any] = {}
    for name in dict.fromkeys(key for record in records for key in record["cost"]):
        values = [record["cost"][name] for record in records if record["cost"].get(name) is not None]
        numbers = all(isinstance(value, int | float) for value in values)
        whole = name == "parameters" or "peak" in name or "per_second" in name or not numbers
        cost[name] = (max(values) if numbers else values[0]) if whole else sum(values)
    digest = hashlib.sha256("\n".join(record["split_hash"] for record in records).encode()).hexdigest()
    return first | {"cost": cost, "split_hash": digest, "genes": max(record["genes"] for record in records)}


def time_left(started: float, done: int, total: int) -> str:
    """`; about 4 min 20 s left`, once one fold is done."""
    return f"; about {duration((time.perf_counter() - started) / done * (total - done))} left" if done else ""
