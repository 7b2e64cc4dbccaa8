import numpy as np
import pytest
from scipy.stats import ttest_ind

from scsave.metrics.differential import overlap, standard_error, top_genes, typical_error, welch_t
from scsave.stats.moments import group_moments, moments


@pytest.fixture
def draw():
    return np.random.default_rng(0)


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
