import numpy as np
import pytest
from scipy.stats import bootstrap

from scsave.metrics.aggregate import bootstrap_interval, dynamic_range, mean_of


def test_mean_leaves_out_what_is_missing():
    assert mean_of([1, np.nan, 3]) == 2
    assert np.isnan(mean_of([np.nan]))
    assert np.isnan(mean_of([]))


def test_interval_is_scipys_percentile_bootstrap():
    values = np.random.default_rng(0).normal(size=40)
    expected = bootstrap((values,), np.mean, method="percentile", n_resamples=5000, rng=1).confidence_interval
    assert bootstrap_interval(values, seed=0, draws=5000) == pytest.approx(tuple(expected), abs=0.03)
    assert bootstrap_interval([*values, np.nan], seed=0) == bootstrap_interval(values, seed=0)
    assert bootstrap_interval(values, seed=0) != bootstrap_interval(values, seed=1)


def test_interval_of_few_values():
    assert np.isnan(bootstrap_interval([], seed=0)).all()
    assert np.isnan(bootstrap_interval([1.0, np.nan], seed=0)).all()
    assert bootstrap_interval([2.0, 2.0], seed=0) == (2, 2)


@pytest.mark.parametrize(("value", "expected"), [(0.2, 0), (0.8, 1), (0.5, 0.5), (0.1, -1 / 6), (1.1, 1.5)])
def test_dynamic_range(value, expected):
    assert dynamic_range(value, baseline=0.2, ceiling=0.8) == pytest.approx(expected)
    assert dynamic_range(-value, baseline=-0.2, ceiling=-0.8) == pytest.approx(expected)
    assert np.isnan(dynamic_range(value, 0.5, 0.5))
    assert np.isnan(dynamic_range(value, np.nan, 0.5))
