"""What a run asked, and by which settings of its method: the two halves of its config that tables tell runs apart by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from scsave.results.collect import Result

Flat = dict[str, Any]  # dotted key -> plain value
# Settings of the task that belong to the method: all others say what is scored, and how.
METHOD_SIDE = ("name", "route", "routes", "nuisance", "reference")
# Where the data came from and what it is called in prose; what it is, is told by its settings and its cells.
_SOURCE = ("path", "mirrors", "citation", "licence", "cache")
# Parts of the config that SAVE is made of (`scsave.runs.build.make_method`); a baseline is its own node.
_MODEL = ("backbone", "likelihood", "objective", "sampling", "blocking", "training", "response", "trainer")
_HARDWARE = (
    "accelerator", "devices", "num_nodes", "num_workers", "strategy", "log_every", "profiler", "detect_anomaly", "options",
)  # fmt: skip


def question(result: Result) -> Flat:
    """Data, split and scoring: numbers of runs that differ here answer different questions."""
    config = result.config
    task = {key: value for key, value in config.get("task", {}).items() if key not in METHOD_SIDE}
    found = {"registry": result.registry, "data": result.data, "cells": result.cells, "split": result.split}
    return found | flat({"task": task, "data": config.get("data", {}), "split": config.get("split", {})})


def variant(result: Result) -> Flat:
    """Every setting of the method that can change its numbers."""
    config = result.config
    task = {key: value for key, value in config.get("task", {}).items() if key in METHOD_SIDE and key != "name"}
    if config.get("baseline", {}).get("_target_"):
        return flat({"baseline": config["baseline"], "task": task})
    model = {key: config.get(key) for key in _MODEL}
    model["trainer"] = {k: v for k, v in (model["trainer"] or {}).items() if k not in _HARDWARE}
    return flat(model | {"task": task})


def flat(node: Any, prefix: str = "") -> Flat:
    """Nested dicts as dotted keys, without the keys that say where files lie; 1.0 is 1."""
    if isinstance(node, float) and node.is_integer():
        node = int(node)
    if not isinstance(node, Mapping):
        return {prefix: node}
    found: Flat = {}
    for key, value in node.items():
        if key not in _SOURCE:
            found |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def differing(flats: Iterable[Flat]) -> list[str]:
    """Keys that have more than one value, a missing one counting; below a `_target_` that differs, only it.

    Of keys that end alike and always have the same value (`split.hold_out` is `task.hold_out`), the first.
    """
    flats = list(flats)
    every = list(dict.fromkeys(key for one in flats for key in one))
    keys = [key for key in every if len({repr(one.get(key)) for one in flats}) > 1]
    seen: dict[tuple, str] = {}
    for key in keys:
        seen.setdefault((key.rsplit(".", 1)[-1], *(repr(one.get(key)) for one in flats)), key)
    keys = [key for key in keys if key in seen.values() or key.endswith("._target_")]
    nodes = [key.removesuffix("_target_") for key in keys if key.endswith("._target_")]
    apart = [key for key in keys if key.endswith("._target_") or not key.startswith(tuple(nodes))]
    return apart if _distinct(flats, apart) == _distinct(flats, keys) else keys


def _distinct(flats: list[Flat], keys: list[str]) -> int:
    return len({tuple(repr(one.get(key)) for key in keys) for one in flats})


def told(one: Flat, keys: list[str]) -> str:
    """`block_size=1600, steps=5`: the values of `keys`, by the shortest names that differ."""
    return ", ".join(f"{_short(key, keys)}={_value(one.get(key), key)}" for key in keys)


def _short(key: str, keys: list[str]) -> str:
    key, others = key.removesuffix("._target_"), [other.removesuffix("._target_") for other in keys]
    parts = key.split(".")
    for n in range(1, len(parts) + 1):
        name = ".".join(parts[-n:])
        if sum(other == name or other.endswith(f".{name}") for other in others) == 1:
            return name
    return key


def _value(value: Any, key: str) -> str:
    if value is None:
        return "null"
    if isinstance(value, list):
        return "+".join(map(str, value))
    return str(value).rsplit(".", 1)[-1] if key.endswith("._target_") else str(value)
