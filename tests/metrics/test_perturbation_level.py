import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.metrics import mean_squared_error, r2_score

from scsave.metrics.perturbation_level import (
    centroid_mean,
    de_weights,
    discrimination,
    l2_distance,
    non_dropout_de,
    weighted_scores,
)
from scsave.stats.moments import group_moments


@pytest.fixture
def draw():
    return np.random.default_rng(0)


def test_l2_is_over_the_genes_that_control_expresses_most(draw):
    predicted, real, control = draw.random((4, 30)), draw.random((4, 30)), draw.random(30)
    top = np.argsort(control)[-7:]
    expected = [np.sqrt(sum((predicted[p, g] - real[p, g]) ** 2 for g in top)) for p in range(4)]
    assert l2_distance(predicted, real, control, k=7) == pytest.approx(expected)
    assert l2_distance(predicted, real, control) == pytest.approx(np.linalg.norm(predicted - real, axis=1))


def test_non_dropout_genes_are_gears():
    t = np.array([9.0, -8.0, 7.0, 6.0, -5.0, 0.0])
    real = np.array([0.0, 1.0, 0.0, 2.0, 3.0, 1.0])
    control = np.array([1.0, 1.0, 0.0, 1.0, 1.0, 1.0])
    non_zero, true_zero = np.flatnonzero(real != 0), np.flatnonzero((real == 0) & (control == 0))
    allowed = {*non_zero, *true_zero}
    gears = [g for g in np.argsort(-np.abs(t)) if g in allowed and t[g] != 0]
    assert non_dropout_de(t, real, control, k=20).tolist() == gears == [1, 2, 3, 4]
    assert non_dropout_de(t, real, control, k=2).tolist() == [1, 2]


def test_weights_are_min_max_scaled_and_squared(draw):
    t = draw.normal(size=12) * 3
    size = (np.abs(t) - np.abs(t).min()) / (np.abs(t).max() - np.abs(t).min())
    assert de_weights(t) == pytest.approx(size**2 / (size**2).sum())
    assert de_weights(np.array([np.inf, 1, 2, 3.0])) == pytest.approx(de_weights(np.array([3, 1, 2, 3.0])))
    assert (de_weights(np.full(5, 2.0)) == 0).all()


def test_weighted_scores_are_sklearns(draw):
    real, predicted, weights = draw.normal(size=20), draw.normal(size=20), draw.random(20)
    found = weighted_scores(real, predicted, weights)
    assert found["r2_weighted"] == pytest.approx(r2_score(real, predicted, sample_weight=weights))
    assert found["mse_weighted"] == pytest.approx(mean_squared_error(real, predicted, sample_weight=weights))
    assert np.isnan(list(weighted_scores(real, predicted, np.zeros(20)).values())).all()


def test_discrimination_against_brute_force(draw):
    real = draw.normal(size=(6, 15))
    predicted = real + draw.normal(size=(6, 15)) * 2
    excluded = [np.array([p, p + 5]) if p % 2 else np.array([], dtype=int) for p in range(6)]
    expected = []
    for p in range(6):
        genes = np.setdiff1d(np.arange(15), excluded[p])
        distance = np.abs(predicted[p, genes] - real[:, genes]).sum(1)
        expected.append(1 - (rankdata(distance)[p] - 1) / 6)
    assert discrimination(predicted, real, excluded) == pytest.approx(expected)
    assert 0 < min(expected) < max(expected) == 1


def test_discrimination_ties_share_their_ranks(draw):
    none = [np.array([], dtype=int)] * 4
    one = draw.normal(size=15)
    assert discrimination(draw.normal(size=(4, 15)), np.tile(one, (4, 1)), none) == pytest.approx(np.full(4, 0.625))
    real = draw.normal(size=(4, 15))
    assert discrimination(real, real, none).tolist() == [1, 1, 1, 1]
    assert np.isnan(discrimination(real[:1], real[:1], none[:1])).all()


def test_the_perturbed_gene_itself_is_no_skill():
    real = np.zeros((3, 5))
    real[[0, 1, 2], [0, 1, 2]] = 10.0  # each perturbation moves its own gene and no other
    own = [np.array([p]) for p in range(3)]
    assert discrimination(real, real, [np.array([], dtype=int)] * 3).tolist() == [1, 1, 1]
    worst = discrimination(np.zeros((3, 5)), real, own)
    assert discrimination(real, real, own) == pytest.approx(worst)


def test_centroids_weigh_the_same(draw):
    x, groups = draw.normal(size=(30, 4)), np.repeat([0, 1, 3], [20, 8, 2])
    expected = np.mean([x[groups == g].mean(0) for g in (0, 1, 3)], axis=0)
    assert centroid_mean(group_moments(x, groups, 4)) == pytest.approx(expected)
