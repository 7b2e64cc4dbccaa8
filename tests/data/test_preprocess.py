import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scsave import keys
from scsave.errors import UserError

from .sources import h5ad, make, tiny


def load(tmp_path, data, **changes):
    return h5ad(tmp_path / "a.h5ad", data, **changes).load(tmp_path / "cache")


def test_pbmc68k_counts_are_whole_and_recovered_exactly(tmp_path):
    source = make("data", "pbmc68k")
    cells = source.load(tmp_path)
    assert cells.shape == (700, 765)
    packaged = anndata.read_h5ad(source.location())
    raw = packaged.raw.X.toarray().astype(np.float64)
    exact = np.expm1(raw) * packaged.obs["n_counts"].to_numpy()[:, None] / 1e4
    # raw.X keeps about four digits: far below the half count that would make rounding doubtful
    assert np.abs(cells.layers[keys.COUNTS].toarray() - exact).max() < 0.1
    # n_counts covers all genes of the original file, so X comes back as scanpy had it
    np.testing.assert_allclose(cells.X.toarray(), raw, atol=2e-3)
    assert list(cells.obs.columns) == ["bulk_labels", "phase", keys.LIBRARY]


def test_expression_is_log1p_of_counts_per_library_and_survives_gene_selection(tmp_path):
    data = tiny()
    cells = load(tmp_path, data)
    counts = data.X.toarray()
    np.testing.assert_allclose(cells.X.toarray(), np.log1p(counts / counts.sum(1, keepdims=True) * 1e4), rtol=1e-5)
    from scsave.data.preprocess import select_genes

    few = select_genes(cells, np.arange(30), n_top_genes=5)
    assert few.shape == (60, 5)
    np.testing.assert_array_equal(few.X.toarray(), cells[:, few.var_names].X.toarray())
    np.testing.assert_array_equal(few.obs[keys.LIBRARY], counts.sum(1))


def test_columns_become_categories_of_text_or_floats(tmp_path):
    cells = load(tmp_path, tiny(), conditions=["cell_type", "batch", "age"])
    assert list(cells.obs["batch"].cat.categories) == ["1", "2"]
    assert cells.obs["age"].dtype == np.float64
    cells = load(tmp_path, tiny(), conditions=["batch"], numeric=["batch"])
    assert set(cells.obs["batch"]) == {1.0, 2.0}


def test_layer_other_column_names_and_level_names(tmp_path):
    data = tiny()
    data.layers["raw_counts"] = data.X.copy()
    data.X = np.log1p(data.X.toarray())
    source = {"conditions": ["kind"], "columns": {"kind": ["label", "cell_type"]}, "levels": {"kind": {"A": "alpha"}}}
    cells = load(tmp_path, data, layer="raw_counts", **source)
    assert list(cells.obs["kind"].cat.categories) == ["B", "C", "alpha"]
    np.testing.assert_array_equal(cells.layers[keys.COUNTS].toarray(), data.layers["raw_counts"].toarray())


def test_exclude_min_genes_and_rare_levels_are_counted(tmp_path):
    data = tiny()
    data.obs.loc["c0", "cell_type"] = "odd"
    cells = load(tmp_path, data, rare_levels="drop", exclude={"cell_type": ["B"]})
    assert set(cells.obs["cell_type"]) == {"A", "C"}
    assert cells.uns[keys.UNS]["dropped_cells"] == {"excluded_or_missing": 20, "few_genes": 0, "rare_levels": 1}


def test_duplicated_genes_are_added_up_on_request(tmp_path):
    data = tiny()
    data.var_names = ["G0", "G0", *data.var_names[2:]]
    cells = load(tmp_path, data, duplicate_genes="sum")
    assert cells.n_vars == 11
    np.testing.assert_array_equal(cells[:, "G0"].layers[keys.COUNTS].toarray()[:, 0], data.X[:, :2].sum(1).A1)


def test_ensembl_ids_with_symbols(tmp_path):
    data = tiny()
    data.var["feature_name"] = [*data.var_names[:-1], None]
    data.var_names = [f"ENSG000000000{g:02d}.3" for g in range(data.n_vars)]
    cells = load(tmp_path, data, symbol_key="feature_name")  # which says that the names are Ensembl ids
    assert cells.var_names[0] == "G0"
    assert cells.var_names[-1] == "ENSG00000000011.3"
    assert cells.var[keys.GENE_ID].iloc[0] == "ENSG00000000000"


def test_perturbation_labels_become_canonical(tmp_path):
    data = tiny()
    data.obs["condition"] = np.array(["ctrl", "B+A", "ctrl+A", "A+ctrl", "A_B", "C"])[np.arange(60) % 6]
    settings = {"perturbation_key": "condition", "perturbation_kind": "genes", "control": "control"}
    cells = load(tmp_path, data, conditions=["condition"], **settings)
    assert cells.obs["condition"].value_counts().to_dict() == {"control": 10, "A+B": 20, "A": 20, "C": 10}


def broken(kind: str):
    data = tiny()
    values = data.X.toarray()
    if kind == "negative":
        values[3, 2] = -1
    elif kind == "nan":
        values[3, 2] = np.nan
    elif kind == "logged":
        values = np.log1p(values)
    elif kind == "fractions":
        values[5:7] *= 100.25
    elif kind == "empty":
        values[4] = 0
    elif kind == "duplicates":
        data.var_names = ["G0", "G0", *data.var_names[2:]]
    elif kind == "lonely":
        data.obs.loc["c0", "cell_type"] = "odd"
    elif kind == "missing":
        data.obs["cell_type"] = data.obs["cell_type"].astype(object)
        data.obs.loc["c0", "cell_type"] = np.nan
    elif kind == "ensembl":
        data.var_names = [f"ENSG000000000{g:02d}" for g in range(data.n_vars)]
    data.X = sp.csr_matrix(values.astype(np.float32))
    return data


BAD = [
    ("negative", {}, ["negative value -1", "data.layer"]),
    ("nan", {}, ["1 entries are NaN", "data.layer"]),
    ("logged", {}, ["already logged", "data.layer"]),
    ("fractions", {}, ["not whole numbers", "data.round_counts=true"]),
    ("empty", {}, ["1 cells have no counts", "data.min_genes=1"]),
    ("duplicates", {}, ["gene names occur more than once", "G0", "data.duplicate_genes=sum"]),
    ("lonely", {}, ["level 'odd' of 'cell_type' has one cell", "data.rare_levels=drop"]),
    ("missing", {}, ["'cell_type' is missing in 1 of 60 cells", "data.drop_missing=true"]),
    ("ensembl", {}, ["look like Ensembl ids", "data.gene_id=ensembl"]),
    ("", {"gene_id": "ensembl"}, ["look like symbols", "data.gene_id=symbol"]),
    ("ensembl", {"gene_id": "ensembl", "organism": "mouse"}, ["look human", "data.organism=human"]),
    ("", {"conditions": ["donor"]}, ["no column 'donor'", "cell_type, batch, age", "data.conditions"]),
    ("", {"conditions": []}, ["data.conditions is empty", "cell_type, batch, age"]),
    ("", {"layer": "counts"}, ["no layer 'counts'", "data.layer"]),
    ("", {"library_key": "age"}, ["'age' is no library size", "data.library_key=null"]),
    ("", {"perturbation_key": "batch", "control": "0"}, ["data.control=0 is no level", "levels: 1, 2"]),
    ("", {"exclude": {"cell_type": ["A", "B", "C"]}}, ["no cell is left", "data.exclude"]),
]


@pytest.mark.parametrize(("kind", "settings", "said"), BAD, ids=lambda v: str(v)[:40])
def test_bad_input_gets_one_line(tmp_path, kind, settings, said):
    with pytest.raises(UserError) as error:
        load(tmp_path, broken(kind), **settings)
    line = str(error.value)
    assert "\n" not in line
    for part in [str(tmp_path / "a.h5ad"), *said]:
        assert part in line


def test_files_that_are_no_h5ad(tmp_path):
    path = tmp_path / "a.h5ad"
    source = h5ad(path, tiny())
    whole = path.read_bytes()
    for content, said in [
        (b"<!DOCTYPE html><html>403</html>", "HTML page"),
        (b"cells\tgenes\n", "not an HDF5 file"),
        (whole[: len(whole) // 2], "truncated or damaged"),
    ]:
        path.write_bytes(content)
        with pytest.raises(UserError, match=said):
            source.load(tmp_path)
    path.unlink()
    with pytest.raises(UserError, match="no such file"):
        source.load(tmp_path)
    with pytest.raises(UserError, match=r"needs data\.path"):
        make("data", "h5ad")


def test_gene_selection_matches_scanpy_and_sees_training_cells_only(tmp_path):
    import scanpy as sc

    from scsave.data.preprocess import select_genes

    cells = make("data", "simulated", n_cells=400, n_genes=200).load(tmp_path)
    train = np.random.default_rng(0).choice(400, 250, replace=False)
    ours = select_genes(cells, train, n_top_genes=50)
    theirs = cells[np.sort(train)].copy()
    theirs.uns["log1p"] = {"base": None}
    sc.pp.highly_variable_genes(theirs, flavor="seurat", n_top_genes=50)
    assert set(ours.var_names) == set(theirs.var_names[theirs.var["highly_variable"]])

    changed = cells.copy()
    others = np.setdiff1d(np.arange(400), train)
    changed.X[others] = changed.X[others] * 3
    assert list(select_genes(changed, train, n_top_genes=50).var_names) == list(ours.var_names)


def test_min_cells_counts_training_cells(tmp_path):
    from scsave.data.preprocess import select_genes

    data = tiny()
    values = data.X.toarray()
    values[:, 5] = 0
    values[40:, 5] = 9  # seen in test cells only
    data.X = sp.csr_matrix(values)
    cells = load(tmp_path, data)
    assert "G5" not in select_genes(cells, np.arange(40), None, min_cells=1).var_names
    assert "G5" in select_genes(cells, np.arange(60), None, min_cells=1).var_names
    with pytest.raises(UserError, match="min_cells=41"):
        select_genes(cells, np.arange(40), None, min_cells=41)


def test_cell_names_given_twice_are_made_unique(tmp_path):
    data = tiny()
    data.obs_names = ["c0", "c0", *data.obs_names[2:]]
    assert load(tmp_path, data).obs_names.is_unique


def test_prepared_cells_round_trip_through_a_file(tmp_path):
    cells = make("data", "simulated", n_cells=100, n_genes=50).load(tmp_path)
    cells.write_h5ad(tmp_path / "b.h5ad")
    again = anndata.read_h5ad(tmp_path / "b.h5ad")
    np.testing.assert_array_equal(again.X.toarray(), cells.X.toarray())
    np.testing.assert_array_equal(again.uns[keys.SIMULATED]["module"], cells.uns[keys.SIMULATED]["module"])
    pd.testing.assert_frame_equal(again.obs, cells.obs, check_names=False)
