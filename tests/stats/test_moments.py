import numpy as np
import pytest
import scipy.sparse as sp

from scsave.stats.moments import group_means, group_moments, group_sums, moments, parts, rest_of
from tests.metrics.cells import population


@pytest.fixture
def draw():
    return np.random.default_rng(0)


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


def test_the_rest_is_everything_outside_the_group(draw):
    x, groups = draw.normal(size=(40, 5)), draw.integers(3, size=40)
    found = rest_of(group_moments(x, groups, 3), moments(x))
    for g in range(3):
        outside = moments(x[groups != g])
        assert found.n[g] == outside.n
        assert found.mean[g] == pytest.approx(outside.mean)
        assert found.variance[g] == pytest.approx(outside.variance)
        assert found.positive[g] == pytest.approx(outside.positive)


def test_parts_are_all_the_rows():
    x, rows = np.arange(23)[:, None], np.array([4, 1, 9])
    assert [(where.start, where.stop) for where, _ in parts(x, 5)] == [(0, 5), (5, 10), (10, 15), (15, 20), (20, 25)]
    assert np.concatenate([part for _, part in parts(x, 5)]).tolist() == x.tolist()
    assert np.concatenate([part for _, part in parts(x, 2, rows)]).tolist() == x[rows].tolist()
    assert [len(part) for _, part in parts(x[:0])] == [0]


def test_moments_of_some_rows_of_transformed_values_whatever_the_block(draw):
    x = np.where(draw.random((50, 6)) < 0.5, 0, draw.random((50, 6)))
    rows = draw.permutation(50)[:31]
    expected = moments(np.expm1(x[rows]))
    for kind in (np.asarray, sp.csr_matrix):
        found = moments(kind(x), rows, np.expm1, size=7)
        for part in ("n", "mean", "variance", "positive"):
            assert getattr(found, part) == pytest.approx(getattr(expected, part), rel=1e-12)
    assert np.isnan(moments(x[:0]).mean).all()


def test_group_sums_leave_out_cells_of_no_group(draw):
    x, codes = draw.random((30, 3)), draw.integers(-1, 3, size=30)
    for kind in (np.asarray, sp.csr_matrix):
        expected = np.array([x[codes == g].sum(0) for g in range(4)])
        assert group_sums(kind(x), codes, 4) == pytest.approx(expected)
        sizes = np.bincount(codes[codes >= 0], minlength=4)
        assert group_means(kind(x), codes, 4)[:3] == pytest.approx(expected[:3] / sizes[:3, None])
        assert np.isnan(group_means(kind(x), codes, 4)[3]).all()


def test_moments_of_counts_are_scanpys():
    import scanpy as sc

    cells = population(80, seed=3)
    cells.obs["type"] = cells.obs["type"].astype("category")
    found = group_moments(cells.X, cells.obs["type"].cat.codes.to_numpy(), 2)
    scanpys = sc.get.aggregate(cells, by="type", func=["mean", "var", "count_nonzero"]).layers
    assert found.mean == pytest.approx(scanpys["mean"], abs=1e-5)
    assert found.variance == pytest.approx(scanpys["var"], abs=1e-4)
    assert found.positive * found.n[:, None] == pytest.approx(scanpys["count_nonzero"])
