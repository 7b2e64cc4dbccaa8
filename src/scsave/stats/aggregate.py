"""From one value per perturbation, cell type or combination to the number in a table: means and bootstrap intervals."""

from collections.abc import Mapping, Sequence

import numpy as np

NAN = float("nan")


def mean_of(values: Sequence[float] | np.ndarray) -> float:
    """Mean of the values that are there; NaN if none is."""
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else NAN


def means_of(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """`mean_of` each name that the first of the rows has."""
    return {name: mean_of([row[name] for row in rows]) for name in rows[0]}


def bootstrap_interval(values: np.ndarray, seed: int, level: float = 0.95, draws: int = 2000) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values`, NaN left out; (NaN, NaN) with fewer than two."""
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return NAN, NAN
    means = values[np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
