import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

from scsave import keys
from scsave.data.from_anndata import as_prepared, with_genes
from scsave.errors import UserError

from .sources import tiny


def dense() -> AnnData:
    cells = tiny()
    cells.X = cells.X.toarray()
    return cells


def logged(cells: AnnData) -> np.ndarray:
    return np.log1p(cells.X / cells.X.sum(axis=1, keepdims=True) * 1e4)


@pytest.mark.parametrize("place", ["X", "layer", "raw", "integers"])
def test_counts_are_found_where_their_owner_keeps_them(place):
    cells = dense()
    counts, values = cells.X.copy(), logged(cells)
    if place == "layer":
        cells.layers["counts"], cells.X = sp.csc_matrix(counts), values
    if place == "raw":
        cells.raw = cells.copy()
        cells = cells[:, :5].copy()
        cells.X = values[:, :5]
    if place == "integers":
        cells.X = counts.astype(np.int64)
    before = cells.copy()
    found = as_prepared(cells)
    assert (found.layers[keys.COUNTS].toarray() == counts).all()
    assert np.allclose(found.X.toarray(), values, atol=1e-5)
    assert (found.obs[keys.LIBRARY] == counts.sum(axis=1)).all()
    pd.testing.assert_frame_equal(found.obs.drop(columns=keys.LIBRARY), cells.obs)
    assert as_prepared(found) is found
    pd.testing.assert_frame_equal(cells.obs, before.obs)  # the caller's own stay as they are
    assert np.array_equal(np.asarray(cells.X), np.asarray(before.X))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: setattr(c, "X", logged(c)), r"cells: X: .*already logged; give counts in layers\['counts'\]"),
        (lambda c: setattr(c, "X", c.X - 1), r"cells: X: found the negative value -1"),
        (lambda c: setattr(c, "X", None), r"cells: no matrix; give counts"),
        (lambda c: setattr(c, "obs_names", ["a", "a", *c.obs_names[2:]]), "cell 'a' is there more than once"),
        (lambda c: setattr(c, "var_names", ["g", "g", *c.var_names[2:]]), "gene 'g' is there more than once"),
        (lambda c: setattr(c, "X", c.X * (np.arange(60) > 1)[:, None]), "2 of 60 have no counts"),
    ],
)
def test_what_cannot_be_used_is_said(spoil, message):
    cells = dense()
    spoil(cells)
    with pytest.raises(UserError, match=message):
        as_prepared(cells)


def test_cells_that_are_still_on_disk_and_views(tmp_path):
    cells = tiny()
    cells.write_h5ad(tmp_path / "a.h5ad")
    disk, view = as_prepared(anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")), as_prepared(cells[10:20])
    assert (disk.layers[keys.COUNTS] != sp.csr_matrix(cells.X)).nnz == 0
    assert (view.layers[keys.COUNTS] != sp.csr_matrix(cells.X[10:20])).nnz == 0


def test_names_alone_do_not_make_cells_prepared():
    cells = as_prepared(tiny())
    stale, scaled = cells.copy(), cells.copy()
    stale.obs[keys.LIBRARY] = 1.0
    scaled.X = scaled.X * 3.3
    for given in (stale, scaled):
        found = as_prepared(given)
        assert (found.X != cells.X).nnz == 0
        assert (found.obs[keys.LIBRARY] == cells.obs[keys.LIBRARY]).all()
    without = cells.copy()
    without.X = None
    assert as_prepared(without) is without


def test_genes_are_matched_by_name():
    cells = as_prepared(tiny())
    genes = list(cells.var_names)
    assert with_genes(cells, genes) is cells
    found = with_genes(cells, [genes[3], "ABSENT", genes[0]])
    assert (found.X.toarray()[:, [0, 2]] == cells.X.toarray()[:, [3, 0]]).all()
    assert found.layers[keys.COUNTS][:, 1].nnz == 0
    with pytest.raises(UserError, match="none of the model's 1 genes"):
        with_genes(cells, ["ABSENT"])
