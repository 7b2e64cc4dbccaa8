"""REGISTRY: every metric of the project by "task/name". Scorers emit exactly these rows, tables read only these."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from pkgutil import iter_modules

from scsave.metrics import rows as files
from scsave.metrics.row import CFGEN, CFGEN_LEGACY, NEUTRAL, PROTOCOLS, Metric

__all__ = ["CFGEN", "CFGEN_LEGACY", "NEUTRAL", "PROTOCOLS", "REGISTRY", "Metric", "checked", "rows"]


def collect(metrics: Iterable[Metric]) -> dict[str, Metric]:
    """Rows by key, in order; ValueError if two rows share a key."""
    collected: dict[str, Metric] = {}
    for row in metrics:
        if row.key in collected:
            raise ValueError(f"metric {row.key} has two rows")
        collected[row.key] = row
    return collected


# Every file of `rows`, so that a new task brings its own.
_FILES = sorted(module.name for module in iter_modules(files.__path__, f"{files.__name__}."))
REGISTRY: dict[str, Metric] = collect(row for name in _FILES for row in import_module(name).ROWS)


def rows(task: str, protocol: str = NEUTRAL) -> dict[str, Metric]:
    """Rows of `task` that `protocol` computes, by name, in table order."""
    return {row.name: row for row in REGISTRY.values() if row.task == task and protocol in row.protocols}


def checked(task: str, values: Mapping[str, float], protocol: str = NEUTRAL) -> dict[str, float]:
    """`values` as plain floats in registry order; ValueError unless they are exactly the rows of the task."""
    expected = rows(task, protocol)
    unknown, missing = set(values) - set(expected), set(expected) - set(values)
    if unknown or missing:
        raise ValueError(f"{task} ({protocol}): no registry row for {sorted(unknown)}, no value for {sorted(missing)}")
    return {name: float(values[name]) for name in expected}
