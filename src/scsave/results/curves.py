"""Runs that differ in one setting as curves over it: guidance, sampling steps, block size. Reads results.json alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from scsave.metrics.row import Metric
from scsave.results.collect import Result
from scsave.results.comparable import Bench, benches
from scsave.results.costs import cost, is_cost
from scsave.results.settings import Flat, differing, told, variant


@dataclass
class Series:
    """One line: runs alike but for the swept setting and the seed. `points[x]` are the runs of one value."""

    label: str
    points: dict[float, list[Result]]

    def values(self, metric: Metric) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, mean and sd over seeds, (P,) each; points without a finite value are left out, sd is 0 for one seed."""
        rows = []
        for x, results in sorted(self.points.items()):
            values = [value for value in (of(result, metric) for result in results) if math.isfinite(value)]
            if values:
                rows.append((x, float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0))
        table = np.array(rows, dtype=float).reshape(-1, 3)
        return table[:, 0], table[:, 1], table[:, 2]


@dataclass
class Curves:
    """The lines of one data set."""

    bench: Bench
    key: str
    series: list[Series]

    def reference(self, row: str, metric: Metric) -> float:
        """Mean over seeds of a reference row; NaN where there is none, and for costs."""
        if is_cost(metric):
            return float("nan")
        by_seed = {result.seed: result.value(row, metric.name) for result in self.bench.results}
        values = [value for value in by_seed.values() if math.isfinite(value)]
        return float(np.mean(values)) if values else float("nan")


def of(result: Result, metric: Metric) -> float:
    """The headline row's value, or the run's cost."""
    return cost(result, metric.name) if is_cost(metric) else result.value(result.method, metric.name)


def curves(results: Iterable[Result], key: str, metrics: Sequence[Metric]) -> list[Curves]:
    """Every data set with runs that differ in the numeric setting `key` alone, at two values of it or more.

    Runs are kept apart as in tables: data, split, scoring and metric versions are one in each of the returned.
    """
    found = []
    for bench in benches(results, [metric for metric in metrics if not is_cost(metric)]):
        lines: dict[str, tuple[Flat, dict[float, list[Result]]]] = {}
        for result in bench.results:
            settings = variant(result)
            x = settings.pop(key, None)
            if isinstance(x, int | float) and not isinstance(x, bool):
                line = lines.setdefault(repr(sorted(settings.items())), (settings, {}))
                _put(line[1].setdefault(float(x), []), result)
        kept = [line for line in lines.values() if len(line[1]) > 1]
        if kept:
            keys = differing([settings for settings, _ in kept])
            names = [told(settings, keys) or bench.first.method for settings, _ in kept]
            found.append(Curves(bench, key, [Series(n, points) for n, (_, points) in zip(names, kept, strict=True)]))
    return found


def _put(point: list[Result], result: Result) -> None:
    """One run a seed: the newer of two."""
    same = next((other for other in point if other.seed == result.seed), None)
    if same is None:
        point.append(result)
    elif result.precedence > same.precedence:
        point[point.index(same)] = result
