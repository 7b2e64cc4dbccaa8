import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import r2_score

from scsave.stats.agreement import pearson, r2, weighted_r2


@pytest.fixture
def draw():
    return np.random.default_rng(0)


def test_agreement_is_scipy_and_sklearn(draw):
    a, b, w = draw.normal(size=30), draw.normal(size=30), draw.random(30)
    assert pearson(a, b) == pytest.approx(pearsonr(a, b)[0])
    assert r2(a, b) == pytest.approx(r2_score(a, b))
    assert weighted_r2(a, b, w) == pytest.approx(r2_score(a, b, sample_weight=w))
    assert weighted_r2(a, b, np.ones(30)) == pytest.approx(r2(a, b))


def test_agreement_of_constants(draw):
    a, flat = draw.normal(size=10), np.full(10, 0.1)
    rounding = flat + draw.normal(size=10) * 1e-17
    assert pearson(a, flat) == pearson(flat, a) == pearson(rounding, a) == 0
    assert pearson(a, a) == pytest.approx(1)
    assert r2(flat, flat) == r2_score(flat, flat) == 1
    assert r2(flat, a) == r2_score(flat, a) == 0
    assert np.isnan(pearson(a[:1], a[:1]))
    assert np.isnan(weighted_r2(a, a, np.zeros(10)))
