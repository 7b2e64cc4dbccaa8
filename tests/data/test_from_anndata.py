import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

from scsave import keys
from scsave.data.from_anndata import as_prepared, with_genes
from scsave.data.h5ad import Packaged
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
        (
            lambda c: setattr(c, "X", np.log1p(c.X * 0.37)),
            r"cells: X: .*already logged; give counts in layers\['counts'\]",
        ),
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
    filled = as_prepared(without)  # every verb may read X
    assert (filled.X != cells.X).nnz == 0
    assert without.X is None


def test_counts_in_a_layer_of_any_name_where_it_is_the_only_one():
    cells = dense()
    counts = cells.X.copy()
    cells.layers["umis"], cells.layers["scaled"], cells.X = counts, counts - 0.5, None
    assert (as_prepared(cells).layers[keys.COUNTS].toarray() == counts).all()
    cells.layers["spliced"] = counts
    with pytest.raises(UserError, match=r"layers\['umis'\] and layers\['spliced'\] both hold counts"):
        as_prepared(cells)


def test_counts_come_back_from_log1p_values_where_they_are_whole():
    cells = dense()
    counts = cells.X.copy()
    counts[counts.sum(axis=1) == 0, 0] = 1
    counts[np.arange(len(counts)), counts.argmax(axis=1)] = 1  # every cell shows a gene once
    cells.X, total = counts, counts.sum(axis=1)
    whole = AnnData(logged(cells).astype(np.float32), obs=cells.obs.drop(columns=[]), var=cells.var)
    found = as_prepared(whole)
    assert (found.layers[keys.COUNTS].toarray() == counts).all()
    assert (found.obs[keys.LIBRARY] == total).all()

    some = np.arange(5)  # the others were left out after normalising: only a column can say the totals
    part = AnnData(whole.X[:, some], obs=whole.obs.assign(n_counts=total, noise=total * 1.37), var=whole.var.iloc[some])
    kept = part[part.X.sum(axis=1) > 0].copy()
    found = as_prepared(kept)
    assert (found.layers[keys.COUNTS].toarray() == counts[part.X.sum(axis=1) > 0][:, some]).all()
    assert (found.obs[keys.LIBRARY] == kept.obs["n_counts"]).all()
    del kept.obs["n_counts"]
    with pytest.raises(UserError, match=r"cells: X: .*give counts in layers"):
        as_prepared(kept)


def test_the_packaged_cells_of_scanpy_are_what_the_demo_reads(tmp_path):
    import scanpy as sc

    mine = as_prepared(sc.datasets.pbmc68k_reduced())
    given = {"package": "scanpy", "file": "datasets/10x_pbmc68k_reduced.h5ad", "conditions": ["phase"], "layer": "raw"}
    demo = Packaged(name="pbmc68k", normalised_by="n_counts", library_key="n_counts", **given).load(tmp_path)
    assert (mine.layers[keys.COUNTS] != demo.layers[keys.COUNTS]).nnz == 0
    assert list(mine.var_names) == list(demo.var_names)
    np.testing.assert_allclose(mine.obs[keys.LIBRARY], demo.obs[keys.LIBRARY])


def test_genes_are_matched_by_name():
    cells = as_prepared(tiny())
    genes = list(cells.var_names)
    assert with_genes(cells, genes) is cells
    found = with_genes(cells, [genes[3], "ABSENT", genes[0]])
    assert (found.X.toarray()[:, [0, 2]] == cells.X.toarray()[:, [3, 0]]).all()
    assert found.layers[keys.COUNTS][:, 1].nnz == 0
    with pytest.raises(UserError, match="none of the model's 1 genes"):
        with_genes(cells, ["ABSENT"])
