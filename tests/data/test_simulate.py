import numpy as np
import pytest

from scsave import keys
from scsave.data.simulate.cells import draw_counts, negative_binomial, planted_modules
from scsave.errors import UserError

from .sources import make


def test_counts_follow_the_stated_mean_and_variance():
    rng = np.random.default_rng(0)
    drawn = negative_binomial(np.full(200_000, 3.0), 2.0, rng)
    assert abs(drawn.mean() - 3.0) < 0.05
    assert abs(drawn.var() - (3.0 + 9.0 / 2.0)) < 0.15


def test_library_sizes_and_proportions_of_drawn_counts():
    rng = np.random.default_rng(0)
    rate = np.log(np.array([1.0, 2.0, 7.0]))
    counts = draw_counts(lambda rows: np.tile(rate, (len(rows), 1)), np.full(5000, 500.0), 50.0, rng).toarray()
    assert abs(counts.sum(1).mean() - 500) < 3
    np.testing.assert_allclose(counts.sum(0) / counts.sum(), [0.1, 0.2, 0.7], atol=0.003)


def test_modules_are_balanced():
    sizes = np.bincount(planted_modules(601, 7, np.random.default_rng(0)))
    assert sizes.max() - sizes.min() <= 1
    assert sizes.sum() == 601


def test_same_seed_same_cells_and_every_group_present(tmp_path):
    a, b = (make("data", "simulated", n_cells=300, n_genes=80).load(tmp_path) for _ in range(2))
    np.testing.assert_array_equal(a.X.toarray(), b.X.toarray())
    assert a.obs.groupby(["cell_type", "batch", "treatment"], observed=False).size().min() >= 2
    other = make("data", "simulated", n_cells=300, n_genes=80, seed=1).load(tmp_path)
    assert (a.X != other.X).nnz > 0


def test_planted_effect_and_modules_are_in_the_cells(tmp_path):
    cells = make("data", "simulated", n_cells=3000, n_genes=200, n_types=2, n_batches=1, type_specific=0.0).load(
        tmp_path
    )
    truth, expression = cells.uns[keys.SIMULATED], cells.X.toarray()
    treated = (cells.obs["treatment"] == "stimulated").to_numpy()
    kind = (cells.obs["cell_type"] == truth["types"][0]).to_numpy()
    change = expression[treated & kind].mean(0) - expression[~treated & kind].mean(0)
    assert np.corrcoef(change, truth["treatment_effect"][0])[0, 1] > 0.85
    # within one type and treatment, genes of one module go up and down together
    own = expression[kind & ~treated]
    r = np.corrcoef(own[:, own.std(0) > 0.2].T)
    same = np.equal.outer(*[truth["module"][own.std(0) > 0.2]] * 2)
    off = ~np.eye(len(r), dtype=bool)
    assert r[same & off].mean() > r[~same].mean() + 0.05


def test_shapes_that_cannot_be(tmp_path):
    with pytest.raises(UserError, match="n_modules=90"):
        make("data", "simulated", n_genes=80, n_modules=90)
    with pytest.raises(UserError, match="n_cells=10"):
        make("data", "simulated", n_cells=10)
