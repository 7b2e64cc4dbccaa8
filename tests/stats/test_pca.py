import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.decomposition import PCA

from scsave import keys
from scsave.errors import UserError
from scsave.stats.pca import Projection, expression, fit_pca, library_size, softened
from tests.metrics.cells import population


@pytest.mark.parametrize(("n", "genes", "kept"), [(80, 20, 3), (30, 60, 25), (12, 5, 30)])
def test_pca_is_sklearns_up_to_sign(n, genes, kept):
    x = population(n, genes).X
    found, reference = fit_pca(x, kept, seed=0), PCA(min(kept, n - 1, genes - 1), svd_solver="full").fit(x.toarray())
    assert found.components.shape == (genes, min(kept, n - 1, genes - 1))
    assert np.abs(found(x)) == pytest.approx(np.abs(reference.transform(x.toarray())), abs=1e-3)
    assert found.mean == pytest.approx(reference.mean_, abs=1e-5)


def test_legacy_projection_is_off_by_a_constant():
    x = population(40).X
    pca = fit_pca(x, 5, seed=0)
    assert pca(x, centred=False) - pca(x) == pytest.approx(np.tile(pca.mean @ pca.components, (40, 1)))
    assert pca(x) == pytest.approx((x.toarray() - pca.mean) @ pca.components, abs=1e-5)
    assert pca(x).mean(0) == pytest.approx(np.zeros(5), abs=1e-5)


def test_softened_components_have_the_root_of_their_sd_and_keep_a_constant():
    x = np.random.default_rng(0).normal(size=(50, 3)) * [9.0, 1.0, 0.04]
    axes = softened(fit_pca(x, 2, seed=0), x)
    assert axes(x).std(0) == pytest.approx(np.sqrt(fit_pca(x, 2, seed=0)(x).std(0)))
    flat = Projection(np.zeros(3), np.eye(3)[:, :2])
    assert (softened(flat, np.ones((4, 3))).components == flat.components).all()


def test_genes_are_matched_by_name():
    cells = population(10)
    shuffled = cells[:, ::-1].copy()
    assert (expression(shuffled, "cells", list(cells.var_names)) != cells.X).nnz == 0
    with pytest.raises(UserError, match="cells: genes differ from the real cells': 2 missing \\(gene0, gene1\\), 0"):
        expression(cells[:, 2:].copy(), "cells", list(cells.var_names))
    with pytest.raises(UserError, match="1 unknown \\(gene39\\)"):
        expression(cells, "cells", list(cells.var_names[:-1]))


def test_bad_values_are_refused():
    cells = population(10)
    cells.X.data[3] = np.nan
    with pytest.raises(UserError, match="cells: X has 1 values that are NaN or infinite, in 1 cells"):
        expression(cells, "cells")
    cells.X = None
    with pytest.raises(UserError, match="X is empty"):
        expression(cells, "cells")


def test_library_sizes_are_checked():
    cells = population(5)
    assert library_size(cells, "cells") == pytest.approx(np.asarray(cells.layers[keys.COUNTS].sum(1)).ravel())
    cells.obs.loc["cell0", keys.LIBRARY] = -1
    with pytest.raises(UserError, match="library_size has negative"):
        library_size(cells, "cells")
    del cells.obs[keys.LIBRARY]
    with pytest.raises(UserError, match="no column library_size in obs; columns: type, state"):
        library_size(cells, "cells")


def test_dense_and_sparse_expression_are_one():
    cells = population(10)
    dense = cells.copy()
    dense.X = cells.X.toarray()
    assert sp.issparse(expression(dense, "cells"))
    assert (expression(dense, "cells") != expression(cells, "cells")).nnz == 0
