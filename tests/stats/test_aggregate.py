import numpy as np
import pytest
from scipy.stats import bootstrap

from scsave.stats.agreement import bootstrap_interval, mean_of


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
