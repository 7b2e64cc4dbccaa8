import numpy as np
import ot
import pytest
from scipy.stats import energy_distance, wasserstein_distance
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import NearestNeighbors

from scsave.metrics.distribution import (
    CFGEN_SCALES,
    authenticity,
    manifold_scores,
    mmd2_rbf,
    mmd2_unbiased,
    squared,
    w1,
    w2,
)
from scsave.metrics.distribution import (
    energy_distance as energy,
)


def samples(n, m, dim=4, shift=0.7, seed=0):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(n, dim)) + shift, draw.normal(size=(m, dim)) * 1.3


@pytest.mark.parametrize(("n", "m"), [(40, 40), (40, 25), (1, 7), (1, 1)])
def test_wasserstein_is_pot_emd2(n, m):
    x, y = samples(n, m)
    u, v = np.full(n, 1 / n), np.full(m, 1 / m)
    assert w1(squared(x, y)) == pytest.approx(ot.emd2(u, v, ot.dist(x, y, metric="euclidean")), abs=1e-10)
    assert w2(squared(x, y)) == pytest.approx(np.sqrt(ot.emd2(u, v, ot.dist(x, y))), abs=1e-10)


@pytest.mark.parametrize(("n", "m"), [(30, 30), (30, 17)])
def test_one_dimension_agrees_with_scipy(n, m):
    x, y = samples(n, m, dim=1)
    assert w1(squared(x, y)) == pytest.approx(wasserstein_distance(x[:, 0], y[:, 0]), abs=1e-10)
    assert energy(squared(x, y)) == pytest.approx(energy_distance(x[:, 0], y[:, 0]) ** 2, abs=1e-10)


def test_a_shift_moves_w_by_its_length():
    x, _ = samples(20, 1)
    shift = np.array([3.0, 4.0, 0, 0])
    assert w1(squared(x + shift, x)) == pytest.approx(5)
    assert w2(squared(x + shift, x)) == pytest.approx(5)


def test_biased_mmd_is_the_sum_over_sklearn_kernels():
    x, y = samples(20, 15)
    expected = 0.0
    for scale in CFGEN_SCALES:
        gamma = 1 / (2 * scale**2)
        expected += rbf_kernel(x, x, gamma).mean() + rbf_kernel(y, y, gamma).mean() - 2 * rbf_kernel(x, y, gamma).mean()
    assert mmd2_rbf(squared(x, y)) == pytest.approx(expected, abs=1e-12)


def test_unbiased_mmd_is_the_u_statistic_over_pairs():
    x, y = samples(9, 7)
    real = [np.linalg.norm(y[i] - y[j]) for i in range(7) for j in range(i)]
    scales = np.median(real) * np.array([0.25, 0.5, 1, 2, 4])
    expected = 0.0
    for scale in scales:

        def kernel(a, b, s=scale):
            return np.exp(-((a - b) ** 2).sum() / (2 * s**2))

        expected += np.mean([kernel(x[i], x[j]) for i in range(9) for j in range(9) if i != j])
        expected += np.mean([kernel(y[i], y[j]) for i in range(7) for j in range(7) if i != j])
        expected -= 2 * np.mean([kernel(a, b) for a in x for b in y])
    assert mmd2_unbiased(squared(x, y)) == pytest.approx(expected / 5, abs=1e-12)


def test_unbiased_mmd_has_no_floor_and_the_biased_one_has():
    draws = [np.random.default_rng(s).normal(size=(2, 12, 4)) for s in range(200)]
    values = np.array([[mmd2_unbiased(squared(a, b)), mmd2_rbf(squared(a, b))] for a, b in draws])
    unbiased = values[:, 0]
    assert abs(unbiased.mean()) < 3 * unbiased.std() / np.sqrt(len(unbiased)) + 1e-3
    assert (unbiased < 0).any()
    assert values[:, 1].min() > 0.2


def test_equal_samples_are_at_distance_zero():
    x, _ = samples(15, 1)
    d = squared(x, x[::-1])
    assert [w1(d), w2(d)] == [0, 0]
    assert mmd2_rbf(d) == pytest.approx(0, abs=1e-12)
    assert energy(d) == pytest.approx(0, abs=1e-12)


def test_degenerate_samples():
    one, many = np.zeros((1, 3)), np.zeros((4, 3))
    assert np.isnan(mmd2_unbiased(squared(one, many)))
    assert mmd2_unbiased(squared(many, many)) == pytest.approx(0)
    assert np.isnan(list(manifold_scores(squared(many, many)).values())).all()


def brute_force_manifold(x, y, k):
    def radius(z):
        return NearestNeighbors(n_neighbors=k + 1).fit(z).kneighbors(z)[0][:, k]

    rx, ry = radius(x), radius(y)
    return {
        "precision": np.mean([any(np.linalg.norm(a - b) <= ry[j] for j, b in enumerate(y)) for a in x]),
        "recall": np.mean([any(np.linalg.norm(a - b) <= rx[i] for i, a in enumerate(x)) for b in y]),
        "density": sum(np.linalg.norm(a - b) <= ry[j] for a in x for j, b in enumerate(y)) / (k * len(x)),
        "coverage": np.mean([any(np.linalg.norm(a - b) <= ry[j] for a in x) for j, b in enumerate(y)]),
    }


@pytest.mark.parametrize(("n", "m", "shift"), [(30, 30, 0.7), (30, 17, 2.0), (12, 25, 0.0)])
def test_manifold_scores_against_brute_force(n, m, shift):
    x, y = samples(n, m, shift=shift)
    assert manifold_scores(squared(x, y)) == pytest.approx(brute_force_manifold(x, y, 5))


def test_manifold_scores_of_equal_and_of_far_samples():
    x, _ = samples(40, 1)
    equal = manifold_scores(squared(x, x))
    assert [equal["precision"], equal["recall"], equal["coverage"]] == [1, 1, 1]
    assert equal["density"] >= 1
    assert set(manifold_scores(squared(x, x + 100)).values()) == {0.0}


def test_authenticity_against_brute_force():
    draw = np.random.default_rng(0)
    x, train, held_out = draw.normal(size=(30, 3)), draw.normal(size=(20, 3)), draw.normal(size=(20, 3))
    x[:12] = train[:12]
    nearest = [[np.linalg.norm(cell - side, axis=1).min() for side in (train, held_out)] for cell in x]
    assert authenticity(x, train, held_out) == pytest.approx(np.mean([a < b for a, b in nearest]))
    assert authenticity(train, train, held_out) == 1
    assert authenticity(held_out, train, held_out) == 0
    assert authenticity(x, train, train) == 0.5
    assert np.isnan(authenticity(x[:0], train, held_out))
    assert np.isnan(authenticity(x, train[:0], held_out[:0]))
    with pytest.raises(ValueError, match="equal numbers of cells, got 20 and 19"):
        authenticity(x, train, held_out[1:])
