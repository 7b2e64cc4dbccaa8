import numpy as np
import pytest
import scipy.sparse as sp
from scipy import stats

from scsave import keys
from scsave.baselines.carry import (
    binomial_at,
    carried_cells,
    carried_groups,
    observed,
    poisson_at,
    repeated,
    stratified,
    to_pooled,
)
from tests.metrics.cells import population


@pytest.fixture(scope="module")
def control():
    return population(300, 60, seed=0)


def means(cells):
    return np.asarray(cells.X.mean(axis=0)).ravel()


def test_quantiles_are_those_of_scipy():
    rng = np.random.default_rng(0)
    u, rate = rng.random((50, 40)), rng.gamma(0.5, 40.0, (50, 40))
    assert (poisson_at(u, rate) == stats.poisson.ppf(u, rate)).all()
    k, p = rng.integers(1, 30, 500).astype(float), rng.random(500)
    assert (binomial_at(u.ravel()[:500], k, p) == stats.binom.ppf(u.ravel()[:500], k, p)).all()


def test_stratified_numbers_fill_each_group_evenly():
    group = np.repeat([0, 1, 2], [7, 1, 20])
    u = stratified(group, np.random.default_rng(0))
    for code, size in enumerate((7, 1, 20)):
        assert sorted(np.floor(u[group == code] * size).astype(int)) == list(range(size))


def test_the_mean_goes_where_it_is_sent_and_cells_stay_counts(control):
    rng = np.random.default_rng(1)
    start = means(control)
    change = np.maximum(rng.normal(0, 0.4, 60), -0.9 * start)
    moved = carried_cells(control, change, "state", "z", 0, "test")
    # one molecule in one cell is the finest step a mean can take
    step = np.log1p(keys.TARGET_SUM / control.obs[keys.LIBRARY].min()) / control.n_obs
    assert np.abs(means(moved) - start - change).max() < 1.5 * step
    counts = moved.layers[keys.COUNTS].data
    assert (counts > 0).all()
    assert (counts == counts.round()).all()
    expected = np.log1p(moved.layers[keys.COUNTS].toarray() * (1e4 / control.obs[keys.LIBRARY].to_numpy())[:, None])
    assert np.allclose(moved.X.toarray(), expected, atol=1e-5)
    assert list(moved.obs_names) == list(control.obs_names)
    assert set(moved.obs["state"]) == {"z"}


def test_falling_genes_only_lose_and_rising_ones_only_gain(control):
    change = np.where(np.arange(60) % 2, 0.5, -0.3)
    moved = carried_cells(control, change, "state", "z", 0, "test")
    difference = (moved.layers[keys.COUNTS] - control.layers[keys.COUNTS]).toarray()
    assert difference[:, 1::2].min() >= 0
    assert difference[:, ::2].max() <= 0


def test_no_change_is_the_control_cell_itself_and_a_fall_below_zero_empties_the_gene(control):
    same = carried_cells(control, np.zeros(60), "state", "z", 0, "test")
    assert (same.layers[keys.COUNTS] != sp.csr_matrix(control.layers[keys.COUNTS])).nnz == 0
    gone = carried_cells(control, np.full(60, -100.0), "state", "z", 0, "test")
    assert gone.layers[keys.COUNTS].nnz == 0


def test_same_seed_same_cells_other_seed_others(control):
    change = np.full(60, 0.3)
    a, b, c = (carried_cells(control, change, "state", "z", s, "test").X.toarray() for s in (0, 0, 1))
    assert (a == b).all()
    assert (a != c).any()


def test_repeated_cells_meet_a_mean_that_a_handful_can_not_and_say_whose_repeats_they_are(control):
    few, change = control[:5].copy(), np.full(60, 0.1)
    many = repeated(few, 60)
    assert (many.n_obs, observed(many), observed(few)) == (300, 5, 5)
    assert means(many) == pytest.approx(means(few), abs=1e-4)  # float32
    assert many.obs_names.is_unique

    def carried(cells):
        return carried_groups(cells, [np.arange(cells.n_obs)], lambda _: change, "state", "z", 0, "test")

    alone, made = carried(few), carried(many)
    missed = [np.abs(means(cells) - means(few) - 0.1).mean() for cells in (alone, made)]
    assert missed[1] < 0.25 * missed[0]
    assert list(made.obs["control_cell"]) == 60 * list(few.obs_names)
    assert made.uns[keys.UNS]["control_cells"] == 5
    assert made.uns[keys.UNS]["rows_repeat_control_cells"]
    assert not alone.uns[keys.UNS]["rows_repeat_control_cells"]
    assert list(alone.obs["control_cell"]) == list(few.obs_names)


def test_a_repeated_control_cell_is_one_observation(control):
    """However often five cells are repeated, their mean is pooled with training's as that of five cells."""
    few, mean, variance = control[:5].copy(), means(control), control.X.toarray().var(axis=0)
    once, often = (to_pooled(cells, mean, variance, 295) for cells in (few, repeated(few, 40)))
    np.testing.assert_allclose(often, once, atol=1e-4)  # float32 means
    share = once @ (mean - means(few)) / np.square(mean - means(few)).sum()
    assert share > 0.8  # 200 observations would give 0.6 at most
    alike = to_pooled(control[:100].copy(), mean, variance, 295)
    assert alike @ (mean - means(control[:100])) / np.square(mean - means(control[:100])).sum() < 0.8
