"""Which runs may stand in one column: one question, one split and the same reference rows for each seed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from scsave.metrics.row import Metric
from scsave.results.collect import Result
from scsave.results.settings import differing, question, told

AGREE = 1e-3  # relative: reference rows of one split that differ by more were not scored alike


@dataclass
class Bench:
    """Runs that a column may compare. `label` is the data set, with the settings that tell it from the table's others."""

    label: str
    results: list[Result]
    notes: list[str] = field(default_factory=list)

    @property
    def first(self) -> Result:
        return self.results[0]


def benches(results: Iterable[Result], metrics: Iterable[Metric]) -> list[Bench]:
    """Runs by what they can be compared in, in the order of their names. `metrics` are those that will be shown.

    Settings of data, split and scoring differ: columns of their own. So are versions of a metric. Where the runs of
    *one seed* have other splits, other genes or other reference rows, the averages over seeds can't be told apart
    either: then each split is a column of its own, and a note says why.
    """
    asked: dict[str, list[Result]] = {}
    metrics = list(metrics)
    for result in results:
        versions = {row.name: result.metric_versions.get(row.name, 1) for row in metrics}
        asked.setdefault(json.dumps([question(result), versions], sort_keys=True, default=str), []).append(result)
    found = [bench for group in asked.values() for bench in _by_split(group, metrics)]
    for data in dict.fromkeys(bench.first.data for bench in found):
        _name([bench for bench in found if bench.first.data == data], data, metrics)
    return sorted(found, key=lambda bench: (bench.first.data, bench.label))


def _by_split(results: list[Result], metrics: list[Metric]) -> list[Bench]:
    clusters: list[list[Result]] = []
    why = ""
    for result in results:
        for cluster in clusters:
            if cluster[0].seed == result.seed and not any(_apart(other, result, metrics) for other in cluster):
                cluster.append(result)
                break
        else:
            rival = next((c[0] for c in clusters if c[0].seed == result.seed), None)
            if rival is not None and not why:
                why = _apart(rival, result, metrics)
            clusters.append([result])
    if not why:
        return [Bench("", results)]
    return [
        Bench(
            f"seed {cluster[0].seed}, split {cluster[0].split_hash[:8]}",
            cluster,
            [f"{cluster[0].data}: one column for each split, no mean over seeds: {why}"],
        )
        for cluster in clusters
    ]


def _apart(a: Result, b: Result, metrics: list[Metric]) -> str:
    """Why two runs of one seed are not about the same cells scored alike; "" if they are."""
    for key in ("split_hash", "genes"):
        one, two = getattr(a, key), getattr(b, key)
        if one != two:
            return f"seed {a.seed} has {key} {str(one)[:8]} in {a.path} and {str(two)[:8]} in {b.path}"
    for protocol in a.protocols:
        for row in set(a.reference_rows) & set(b.reference_rows):
            for metric in metrics:
                one, two = (r.value(row, metric.name, protocol=protocol) for r in (a, b))
                if not agree(one, two):
                    told = f"{row} has {metric.name} {one:.6g} in {a.path} and {two:.6g} in {b.path}"
                    return f"seed {a.seed}: row {told} ({protocol})"
    return ""


def agree(one: float, two: float) -> bool:
    """Whether two values of one thing are the same up to the machine; missing and missing are."""
    if math.isnan(one) or math.isnan(two):
        return math.isnan(one) and math.isnan(two)
    return math.isclose(one, two, rel_tol=AGREE, abs_tol=1e-9)


def _name(same: list[Bench], data: str, metrics: list[Metric]) -> None:
    """Labels of the benches of one data set: its name, with what differs where there are several."""
    flats = [question(bench.first) for bench in same]
    keys = differing(flats)
    keys = [key for key in keys if key != "cells" or len(keys) == 1]  # follows from the other settings
    for bench, one in zip(same, flats, strict=True):
        versions = [f"{m.name} v{bench.first.metric_versions.get(m.name, 1)}" for m in metrics if _varies(same, m)]
        parts = [part for part in (told(one, keys), ", ".join(versions), bench.label) if part]
        bench.label = f"{data} ({'; '.join(parts)})" if parts else data


def _varies(same: list[Bench], metric: Metric) -> bool:
    return len({bench.first.metric_versions.get(metric.name, 1) for bench in same}) > 1
