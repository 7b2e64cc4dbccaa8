"""What a run cost, as columns of a table. Not metrics of the registry: they say nothing of the cells, and are not ranked."""

from __future__ import annotations

from scsave.metrics.row import Metric
from scsave.results.collect import Result

_DIVISOR: dict[str, tuple[str, float]] = {
    "train_minutes": ("seconds_fit", 60.0),
    "sample_seconds": ("seconds_sample", 1.0),
    "parameters_millions": ("parameters", 1e6),
    "peak_gb": ("peak_rss_mb", 1024.0),
}


def cost_rows(registry: str) -> dict[str, Metric]:
    """One row a cost: name -> Metric of the table's task."""
    labels = ("train min", "sample s", "parameters, M", "peak GB")
    return {
        name: Metric(
            name=name,
            task=registry,
            label=label,
            space="the run's device",
            formula=f"cost.{key} / {divisor:g}" if divisor != 1 else f"cost.{key}",
            best="min",
            aggregate="pooled",
            min_cells=None,
            description="of the whole run, all its routes and folds",
        )
        for label, (name, (key, divisor)) in zip(labels, _DIVISOR.items(), strict=True)
    }


def is_cost(metric: Metric) -> bool:
    return metric.name in _DIVISOR


def cost(result: Result, name: str) -> float:
    """NaN where the run did not say."""
    key, divisor = _DIVISOR[name]
    value = result.cost.get(key)
    return float("nan") if value is None else float(value) / divisor
