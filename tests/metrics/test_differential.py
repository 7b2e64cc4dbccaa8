import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import pearsonr, ttest_ind
from sklearn.metrics import r2_score

from scsave.metrics.differential import (
    group_moments,
    moments,
    overlap,
    rest_of,
    standard_error,
    top_genes,
    typical_error,
    welch_t,
)
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


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csr_array])
def test_moments_are_numpys(draw, kind):
    x = np.where(draw.random((20, 6)) < 0.5, 0, draw.normal(size=(20, 6))).astype(np.float32)
    found = moments(kind(x))
    assert found.mean == pytest.approx(x.mean(0), abs=1e-6)
    assert found.variance == pytest.approx(x.var(0, ddof=1), abs=1e-6)
    assert found.positive == pytest.approx((x > 0).mean(0))
    groups = draw.integers(3, size=20)
    by_group = group_moments(kind(x), groups, 4)
    for g in range(3):
        one = moments(x[groups == g])
        assert by_group.mean[g] == pytest.approx(one.mean)
        assert by_group.variance[g] == pytest.approx(one.variance)
        assert by_group.positive[g] == pytest.approx(one.positive)
    assert by_group.n[3] == 0
    assert (by_group.mean[3] == 0).all()


def test_welch_is_scipys(draw):
    a, b = draw.normal(size=(12, 5)), draw.normal(size=(30, 5)) * 2 + 0.5
    assert welch_t(moments(a), moments(b)) == pytest.approx(ttest_ind(a, b, equal_var=False).statistic)


def test_welch_without_variance():
    a, b = np.tile([1.0, 0.3, 0.0], (4, 1)), np.tile([1.0, 0.1, 0.0], (3, 1))
    assert welch_t(moments(a), moments(b)).tolist() == [0, np.inf, 0]
    one_cell, many = np.array([[2.0]]), np.array([[0.0], [1.0], [2.0]])
    assert welch_t(moments(one_cell), moments(many)) == pytest.approx(1 / np.sqrt(1 / 3))


def test_top_genes_and_overlap():
    score = np.array([0.5, -3.0, 0.0, 2.0, np.inf, 1e-12])
    assert top_genes(score, 3).tolist() == [4, 1, 3]
    assert top_genes(score, 6).tolist() == [4, 1, 3, 0]
    assert top_genes(np.ones(5), 2).tolist() == [0, 1]
    assert overlap(score, score, 2) == 1
    assert overlap(score, np.array([9, 8, 0, 0, 0, 0.0]), 2) == 0.5
    assert overlap(score, np.zeros(6), 2) == 0
    assert overlap(score, score, 100) == 1
    assert np.isnan(overlap(np.zeros(6), score, 2))


def test_the_rest_is_everything_outside_the_group(draw):
    x, groups = draw.normal(size=(40, 5)), draw.integers(3, size=40)
    found = rest_of(group_moments(x, groups, 3), moments(x))
    for g in range(3):
        outside = moments(x[groups != g])
        assert found.n[g] == outside.n
        assert found.mean[g] == pytest.approx(outside.mean)
        assert found.variance[g] == pytest.approx(outside.variance)
        assert found.positive[g] == pytest.approx(outside.positive)


def test_moderated_t_keeps_an_unseen_gene_off_the_top(draw):
    control = np.hstack([draw.normal(size=(30, 6)), np.zeros((30, 1))])
    predicted = moments(control + np.array([1, 0, 0, 0, 0, 0, 1e-3]))
    fudge = typical_error(predicted, moments(control))
    error = standard_error(predicted, moments(control))
    assert fudge == pytest.approx(np.median(error[:6]))
    assert top_genes(welch_t(predicted, moments(control)), 1).tolist() == [6]
    moderated = welch_t(predicted, moments(control), fudge)
    assert moderated == pytest.approx((predicted.mean - control.mean(0)) / (error + fudge), abs=1e-9)
    assert top_genes(moderated, 2).tolist() == [0, 6]
    groups = group_moments(np.vstack([control, control + 1]), np.repeat([0, 1], 30), 3)
    by_row = typical_error(groups, moments(control))
    assert by_row.shape == (3,)
    assert by_row[0] == pytest.approx(typical_error(moments(control), moments(control)))
    assert typical_error(moments(control[:, 6:]), moments(control[:, 6:])) == 0
