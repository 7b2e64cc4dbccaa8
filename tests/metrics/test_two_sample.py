import numpy as np
import pytest

from scsave.metrics.distribution import POOLED_CELLS, c2st_auc, c2st_auc_genes, c2st_pooled, folds_of


@pytest.fixture
def draw():
    return np.random.default_rng(0)


@pytest.mark.parametrize("auc", [c2st_auc, c2st_auc_genes])
def test_one_distribution_cannot_be_told_apart_and_two_far_ones_can(draw, auc):
    x, y = draw.normal(size=(150, 10)), draw.normal(size=(150, 10))
    assert auc(x, y, seed=0) == pytest.approx(0.5, abs=0.1)
    assert auc(x + 2, y, seed=0) > 0.98


def test_trees_see_what_a_line_cannot(draw):
    x, y = draw.normal(size=(300, 5)), draw.normal(size=(300, 5)) * 0.3
    assert c2st_auc(x, y, seed=0) > 0.95
    assert c2st_auc_genes(x, y, seed=0) < 0.65


@pytest.mark.parametrize("auc", [c2st_auc, c2st_auc_genes])
def test_equal_samples_are_at_one_half_and_a_repeated_cell_is_found_out(draw, auc):
    y = draw.normal(size=(200, 6))
    assert auc(y, y, seed=0) == pytest.approx(0.5, abs=0.02)
    assert c2st_auc(np.tile(y.mean(0), (200, 1)), y, seed=0) > 0.95


def test_folds_keep_twins_together_and_samples_balanced(draw):
    x, y = draw.normal(size=(53, 3)), draw.normal(size=(40, 3))
    x[10:20], y[:5] = x[0], x[1]
    fold = folds_of(x, y, 5, seed=0)
    assert len({fold[1], *fold[53:58]}) == 1
    assert len(set(fold[[0, *range(10, 20)]])) > 1
    apart = folds_of(x[20:], y[5:], 5, seed=0)
    assert np.ptp(np.bincount(apart[:33])) <= 1
    assert np.ptp(np.bincount(apart[33:])) <= 1


def test_too_few_cells_and_the_seed(draw):
    x, y = draw.normal(size=(60, 4)), draw.normal(size=(60, 4))
    assert np.isnan(c2st_auc(x[:9], y, seed=0))
    assert c2st_auc(x, y, seed=0) == c2st_auc(x, y, seed=0)
    assert c2st_auc(x, y, seed=0) != c2st_auc(x, y, seed=1)


def test_genes_that_are_never_counted_do_not_count(draw):
    x, y = draw.normal(size=(100, 6)).astype(np.float32), draw.normal(size=(100, 6)).astype(np.float32)
    x, y = np.maximum(x, 0), np.maximum(y, 0)
    expected = c2st_auc_genes(x, y, seed=0)
    traces, nothing = np.zeros((100, 4), dtype=np.float32), np.zeros((100, 4), dtype=np.float32)
    traces[:, 0] = 1e-44 * np.arange(100)
    traces[:, 1] = draw.normal(size=100) * 1e-30
    traces[7, 2] = 1e-20
    traces[:, 3] = draw.normal(size=100) * 1e-20
    nothing[3, 3] = 2.0  # a count in one real cell: divided by the sd of traces it would be 1e20
    found = c2st_auc_genes(np.hstack([x, traces]), np.hstack([y, nothing]), seed=0)
    assert np.isfinite(found)
    assert found == pytest.approx(expected, abs=0.03)


def test_pooled_is_the_mean_of_draws_of_as_many_cells_of_both(draw):
    x, y = draw.normal(size=(700, 4)), draw.normal(size=(60, 4)) + 0.5
    assert c2st_pooled(x, y, seed=3) == pytest.approx(c2st_pooled(x, y, seed=3), abs=0)
    assert c2st_pooled(x, y, seed=3) != c2st_pooled(x, y, seed=4)
    assert np.isnan(c2st_pooled(x, y[:49], seed=0))
    assert c2st_pooled(x[:60], y, seed=3) == c2st_auc(x[:60], y, seed=3)  # nothing to draw
    large = draw.normal(size=(2, 2000, 20)) + np.array([0.15, 0])[:, None, None]
    fixed = c2st_pooled(*large, seed=0)
    drawn = [c2st_auc(*(side[i * POOLED_CELLS :][:POOLED_CELLS] for side in large), seed=0) for i in range(4)]
    assert fixed == pytest.approx(np.mean(drawn), abs=0.05)
    assert c2st_auc(*large, seed=0) > fixed  # grows with the number of cells
