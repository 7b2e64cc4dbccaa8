"""Hand-made results.json files, whole ones: what tables and figures are tested on."""

import copy
import json
from pathlib import Path
from typing import Any

CONFIG: dict[str, Any] = {
    "mode": "train",
    "seed": 0,
    "task": {"_target_": "scsave.tasks.generation.Generation", "name": "generation", "n_top_genes": 2000},
    "data": {"name": "toy", "n_top_genes": None, "path": "a.h5ad", "conditions": ["cell_type"]},
    "split": {"_target_": "scsave.data.splits.strategies.RandomSplit", "test": 0.2},
    "blocking": {"_target_": "scsave.blocking.schemes.Random", "block_size": 3200},
    "sampling": {"guidance": 1.0, "solver": {"steps": 50}},
}
PARTS = ("blocking", "sampling", "training", "objective")  # what the node of SAVE reads from the top level


def write(
    folder: Path,
    metrics: dict[str, dict[str, float | None]] | None = None,
    *,
    protocols: dict[str, dict[str, dict[str, float]]] | None = None,
    config: dict[str, Any] | None = None,
    groups: dict[str, dict[str, dict[str, float]]] | None = None,
    **changes: Any,
) -> Path:
    """`<folder>/results.json` of a run of `save` on `toy`. `metrics` and `protocols` are row -> metric -> value of `all`;
    `config` has dotted keys; `changes` replace keys of the file."""
    metrics = metrics if metrics is not None else {"save": {"w1": 2.0}, "real": {"w1": 1.0}}
    full = copy.deepcopy(CONFIG)
    for key, value in (config or {}).items():
        *path, last = key.split(".")
        node = full
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    method = changes.get("method", "save")
    own = {key: full[key] for key in PARTS if key in full} if method == "save" else {}
    full["method"] = {"_target_": f"scsave.methods.{method}", "name": method} | own
    content = {
        "schema": 1,
        "written": "2026-01-01T00:00:00+00:00",
        "task": "generation",
        "registry": "generation",
        "data": "toy",
        "method": "save",
        "seed": 0,
        "split": "random",
        "split_hash": "ab" * 32,
        "config_hash": "0123456789",
        "config": full,
        "cells": 100,
        "genes": 50,
        "command": "python train.py data=toy",
        "git_commit": "c0ffee",
        "metrics": {row: {"all": values} | (groups or {}).get(row, {}) for row, values in metrics.items()},
        "protocols": {
            name: {row: {"all": values} for row, values in scores.items()} for name, scores in (protocols or {}).items()
        },
        "info": {"headline_protocol": "neutral"},
        "cost": {"seconds_fit": 60.0},
    } | changes
    content["config"]["seed"] = content["seed"]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.json"
    path.write_text(json.dumps(content))
    return path
