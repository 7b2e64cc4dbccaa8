"""Files, columns, names and numbers that must be read right or refused in one line: each a case of its kind."""

import logging
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

from scsave import keys
from scsave.data.conditions import Conditions
from scsave.errors import UserError
from scsave.keys import Columns
from tests.data.sources import make

SYMBOLS = [f"GENE{g}A" for g in range(30)]


def cells(n: int = 60) -> AnnData:
    """Counts of 30 genes in cells of two types, three donors and two levels of a treatment."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(2.0, size=(n, 30)).astype(np.float32)
    counts[:, 0] += 1
    place = np.arange(n)
    obs = pd.DataFrame(
        {
            "cell_type": np.array(["B", "T"])[place % 2],
            "donor": np.array(["d1", "d2", "d3"])[place % 3],
            "state": np.array(["ctrl", "stim"])[place // 3 % 2],
            "dose": np.array([0.0, 1.0, 10.0])[place % 3],
        },
        index=[f"c{i}" for i in place],
    )
    return AnnData(sp.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=SYMBOLS))


def load(tmp_path: Path, data: AnnData, **settings) -> AnnData:
    """`data=h5ad` over `data`, as a run loads it."""
    with anndata.settings.override(allow_write_nullable_strings=True):
        data.write_h5ad(tmp_path / "a.h5ad")
    return loaded(tmp_path / "a.h5ad", **settings)


def loaded(path: Path, kind: str = "h5ad", **settings) -> AnnData:
    return make("data", kind, path=str(path), **({"conditions": ["cell_type"]} | settings)).load(path.parent / "cache")


def refused(act, *words: str) -> str:
    """`act` ends in one line that holds `words`."""
    with pytest.raises(UserError) as error:
        act()
    line = str(error.value)
    assert "\n" not in line
    for word in words:
        assert word in line
    return line


# --- the matrix against the tables, and its own format ---
def reshaped(path: Path, rows: int, columns: int, form=sp.csr_matrix) -> None:
    """An h5ad whose X has so many rows and columns more than obs and var name."""
    data = cells()
    data.X = form(data.X)
    data.write_h5ad(path)
    values = np.random.default_rng(1).poisson(1.0, (60 + rows, 30 + columns)).astype(np.float32)
    with h5py.File(path, "a") as file:
        del file["X"]
        anndata.io.write_elem(file, "X", form(values))


def dense(values) -> np.ndarray:
    return values.toarray() if sp.issparse(values) else values


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, dense])
@pytest.mark.parametrize(("rows", "columns"), [(5, 0), (-5, 0), (0, 5), (0, -5)])
def test_a_matrix_of_another_shape_than_its_tables(tmp_path, rows, columns, form):
    reshaped(tmp_path / "a.h5ad", rows, columns, form)
    words = f"X is {60 + rows} x {30 + columns}", "60 cells and 30 genes"
    refused(lambda: loaded(tmp_path / "a.h5ad"), *words)


def test_a_layer_of_another_shape_is_refused_where_it_is_read(tmp_path):
    cells().write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "a") as file:
        anndata.io.write_elem(file, "layers/odd", sp.csr_matrix((50, 30), dtype=np.float32))
    assert loaded(tmp_path / "a.h5ad").shape == (60, 30)
    refused(lambda: loaded(tmp_path / "a.h5ad", layer="odd"), "odd is 50 x 30")


BROKEN = {
    "a negative index": lambda x: x["indices"].__setitem__(3, -2),
    "an index past the last gene": lambda x: x["indices"].__setitem__(3, 60),
    "pointers that fall": lambda x: x["indptr"].__setitem__(4, 999_999),
    "pointers that do not begin at 0": lambda x: x["indptr"].__setitem__(0, 1),
    "a last pointer before the end": lambda x: x["indptr"].__setitem__(-1, x["indptr"][-1] - 1),
}


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix], ids=["csr", "csc"])
@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_sparse_format(tmp_path, fault, form):
    data = cells()
    data.X = form(data.X)
    data.write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "a") as file:
        BROKEN[fault](file["X"])
    refused(lambda: loaded(tmp_path / "a.h5ad"), f"{tmp_path}/a.h5ad: X: its sparse format is broken")


def test_a_wrong_shape_attribute(tmp_path):
    cells().write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "a") as file:
        file["X"].attrs["shape"] = (10, 3)
    refused(lambda: loaded(tmp_path / "a.h5ad"), "X is 10 x 3")


@pytest.mark.parametrize("extra", [(0, 4), (4, 0)])
def test_a_loom_matrix_of_another_shape(tmp_path, extra):
    with h5py.File(tmp_path / "a.loom", "w") as file:
        file["matrix"] = np.random.default_rng(0).poisson(2.0, size=(8 + extra[0], 30 + extra[1]))  # genes x cells
        file.create_group("layers")
        file["row_attrs/Gene"] = np.array([f"G{i}A".encode() for i in range(8)])
        file["col_attrs/CellID"] = np.array([f"cell{i}".encode() for i in range(30)])
        file["col_attrs/cell_type"] = np.array([b"B", b"T"])[np.arange(30) % 2]
    refused(lambda: loaded(tmp_path / "a.loom"), f"X is {30 + extra[1]} x {8 + extra[0]}", "30 cells and 8 genes")


def test_loom_columns_of_unequal_length(tmp_path):
    with h5py.File(tmp_path / "a.loom", "w") as file:
        file["matrix"] = np.ones((2, 3))
        file["row_attrs/Gene"] = np.array([b"A", b"B"])
        file["col_attrs/CellID"], file["col_attrs/type"] = np.array([b"a", b"b", b"c"]), np.array([b"x"])
    refused(lambda: loaded(tmp_path / "a.loom"), "a.loom: truncated or damaged")


def test_text_in_the_place_of_counts(tmp_path):
    cells().write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "a") as file:
        del file["X"]
        file["X"] = np.full((60, 30), b"3")
    refused(lambda: loaded(tmp_path / "a.h5ad"), "X holds text or objects", "data.layer")


@pytest.mark.parametrize("byte", [2, 9, 20, 40, 60, 88])
def test_flipped_bytes_of_the_header_end_in_a_line_or_change_nothing(tmp_path, byte):
    expected = load(tmp_path, cells())
    content = bytearray((tmp_path / "a.h5ad").read_bytes())
    content[byte] ^= 0xFF
    (tmp_path / "a.h5ad").write_bytes(content)
    try:
        found = loaded(tmp_path / "a.h5ad")
    except UserError:
        refused(lambda: loaded(tmp_path / "a.h5ad"), "a.h5ad")
    else:
        assert (found.X != expected.X).nnz == 0


def test_no_mark_at_the_root_and_nothing_that_anndata_knows(tmp_path):
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        file["X"], file["obs"], file["var"] = np.ones((3, 2)), np.ones(3), np.ones(2)
    refused(lambda: loaded(tmp_path / "a.h5ad"), "a.h5ad: truncated or damaged")


@pytest.mark.parametrize("fault", ["chunk", "root", "table"])
def test_a_damaged_zarr_store(tmp_path, fault):
    store = tmp_path / "a.zarr"
    cells(400).write_zarr(store)
    if fault == "chunk":
        for file in (file for file in (store / "X" / "data").rglob("*") if file.is_file() and file.name[0] in "0c"):
            file.write_bytes(b"not a chunk")
    elif fault == "root":
        for file in (*store.glob(".zattrs"), *store.glob(".zmetadata"), *store.glob("zarr.json")):
            file.unlink()
    else:
        for file in (file for file in (store / "obs").rglob("*") if file.name in (".zattrs", "zarr.json")):
            file.write_text("{")
        (store / ".zmetadata").unlink(missing_ok=True)
    refused(lambda: loaded(store), str(store))


def test_a_zarr_matrix_of_another_shape(tmp_path):
    import zarr

    cells().write_zarr(tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / ".zmetadata").unlink()
    file = zarr.open_group(str(tmp_path / "a.zarr"), mode="a")
    del file["X"]
    anndata.io.write_elem(file, "X", np.ones((60, 40), dtype=np.float32))
    refused(lambda: loaded(tmp_path / "a.zarr"), "X is 60 x 40")


@pytest.mark.parametrize("bad", [0.5, -1.0, np.nan, np.inf])
def test_one_bad_value_among_many_is_counted(tmp_path, bad):
    data = cells(2000)
    data.X.data[:] = 3
    data.X.data[77] = bad
    line = refused(lambda: load(tmp_path, data), f"{data.X.nnz:,}", "data.layer")
    assert "%" not in line
    assert "(1 of" in line or "1 of" in line or "1 entries" in line


def test_a_file_without_genes(tmp_path):
    refused(lambda: load(tmp_path, cells()[:, :0].copy()), "a.h5ad: the file names no genes")


# --- columns of obs ---
def with_column(name: str, values) -> AnnData:
    data = cells()
    data.obs[name] = values
    return data


def labels_with_mask() -> list[str]:
    return [keys.MASK if i < 9 else "a" for i in range(60)]


COLUMNS = [
    ("an infinite number", with_column("time", [np.inf] * 7 + [1.0] * 53), {"conditions": ["cell_type", "time"]},
     ["'time' is infinite in 7 of 60 cells", "data.drop_missing=true"]),
    ("a missing number", with_column("time", [np.nan] * 7 + [1.0] * 53), {"conditions": ["cell_type", "time"]},
     ["'time' is missing in 7 of 60 cells", "data.drop_missing=true"]),
    ("text told to be numbers", with_column("unit", ["0 nM", "10 nM"] * 30),
     {"conditions": ["unit"], "numeric": ["unit"]}, ["'unit' is no number in 60 of 60 cells, such as '0 nM'"]),
    ("labels told to be numbers", cells(), {"conditions": ["donor"], "numeric": ["donor"]}, ["such as 'd1'"]),
    ("a condition named twice", cells(), {"conditions": ["donor", "donor"]}, ["names 'donor' twice"]),
    ("a level called as the mask", with_column("label", labels_with_mask()), {"conditions": ["label"]},
     ["'label' has a level '[MASK]'", "data.levels"]),
    ("the product's own column", with_column("library_size", ["low", "high"] * 30), {"conditions": ["library_size"]},
     ["'library_size' is a name that scsave writes itself", "data.columns"]),
    ("the product's own index", with_column("cell", ["x", "y"] * 30), {"conditions": ["cell"]}, ["data.columns"]),
    ("kept under the index's name", with_column("cell", ["x", "y"] * 30), {"keep": ["cell"]}, ["data.columns"]),
    ("a type under the index's name", with_column("cell", ["x", "y"] * 30), {"cell_type_key": "cell"}, ["data.columns"]),
    ("text for library sizes", with_column("total", ["many"] * 60), {"library_key": "total"},
     ["'total' is no number in 60 of 60 cells, such as 'many'", "data.library_key=null"]),
    ("text for the counts per cell", with_column("total", ["many"] * 60), {"normalised_by": "total"},
     ["'total' is no number", "data.normalised_by"]),
    ("a wrong perturbation key is not blamed on the conditions", cells(), {"perturbation_key": "guide", "control": "c"},
     ["no column 'guide' in obs; columns present: cell_type, donor", "set data.perturbation_key"]),
    ("a column that plays two roles", cells(), {"conditions": ["lane"], "batch_key": "lane"},
     ["set data.conditions and data.batch_key"]),
]  # fmt: skip


@pytest.mark.parametrize(("data", "settings", "words"), [c[1:] for c in COLUMNS], ids=[c[0] for c in COLUMNS])
def test_a_column_that_cannot_be_used(tmp_path, data, settings, words):
    refused(lambda: load(tmp_path, data, **settings), *words)


def test_infinite_and_missing_numbers_are_dropped_on_request(tmp_path):
    data = with_column("time", [np.inf] * 7 + [np.nan] * 3 + [1.5] * 50)
    found = load(tmp_path, data, conditions=["cell_type", "time"], drop_missing=True)
    assert found.n_obs == 50
    assert set(found.obs["time"]) == {1.5}


def test_the_mask_and_reserved_names_are_read_under_another_name(tmp_path):
    named = {"levels": {"label": {keys.MASK: "unknown"}}, "conditions": ["label", "depth"]}
    data = with_column("label", labels_with_mask())
    data.obs["library_size"], data.obs["cell"] = ["low", "high"] * 30, "x"
    found = load(tmp_path, data, **named, columns={"depth": ["library_size"], "name": ["cell"]}, keep=["name"])
    assert set(found.obs["label"]) == {"unknown", "a"}
    assert set(found.obs["depth"]) == {"low", "high"}
    assert set(found.obs["name"]) == {"x"}
    assert found.obs[keys.LIBRARY].dtype == np.float64


@pytest.mark.parametrize("kind", ["string", "Int64", "boolean"])
def test_nullable_columns(tmp_path, kind):
    values = {"string": ["a", "b"], "Int64": [1, 2], "boolean": [True, False]}[kind]
    data = with_column("label", pd.array([None if i % 9 == 0 else values[i % 2] for i in range(60)], dtype=kind))
    refused(lambda: load(tmp_path, data, conditions=["label"]), "'label' is missing in 7 of 60 cells")
    found = load(tmp_path, data, conditions=["label"], drop_missing=True)
    assert list(found.obs["label"].cat.categories) == sorted(map(str, values))
    if kind == "Int64":
        found = load(tmp_path, data, conditions=["label"], numeric=["label"], drop_missing=True)
        assert set(found.obs["label"]) == {1.0, 2.0}


def test_numbers_stored_as_categories(tmp_path):
    data = with_column("level", pd.Categorical(np.array([0.0, 0.1, 10.0])[np.arange(60) % 3]))
    found = load(tmp_path, data, conditions=["level"], numeric=["level"])
    assert set(found.obs["level"]) == {0.0, 0.1, 10.0}


def test_levels_that_differ_by_a_blank_or_by_case_are_said(tmp_path, caplog):
    data = with_column("label", ["T", "T ", "t", "B"] * 15)
    with caplog.at_level(logging.WARNING, "scsave"):
        assert len(load(tmp_path, data, conditions=["label"]).obs["label"].cat.categories) == 4
    assert "levels of 'label' that differ by blanks or case alone: ['T', 'T ', 't']" in caplog.text


def test_a_layout_of_before_anndata_0_8(tmp_path):
    data = cells()
    for column in ("cell_type", "donor"):
        data.obs[column] = data.obs[column].astype("category")
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        file["X"] = data.X.toarray()
        for name, table in (("obs", data.obs[["cell_type", "donor"]]), ("var", data.var)):
            group = file.create_group(name)
            group.attrs.update({"_index": "_index", "encoding-type": "dataframe", "encoding-version": "0.1.0"})
            group.attrs.create("column-order", np.array(list(table.columns), dtype=h5py.string_dtype()))
            group.create_dataset("_index", data=np.array(table.index, dtype=object), dtype=h5py.string_dtype())
            levels = group.create_group("__categories")
            for column in table:
                known = np.array(table[column].cat.categories, dtype=object)
                stored = levels.create_dataset(column, data=known, dtype=h5py.string_dtype())
                stored.attrs["ordered"] = False
                codes = group.create_dataset(column, data=table[column].cat.codes.to_numpy())
                codes.attrs["categories"] = stored.ref
    found = loaded(tmp_path / "a.h5ad", conditions=["cell_type", "donor"])
    assert list(found.obs["donor"]) == list(data.obs["donor"])
    np.testing.assert_array_equal(found.layers[keys.COUNTS].toarray(), data.X.toarray())


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_formats(tmp_path, version):
    with anndata.settings.override(zarr_write_format=version):
        cells().write_zarr(tmp_path / "a.zarr")
    np.testing.assert_array_equal(loaded(tmp_path / "a.zarr").layers[keys.COUNTS].toarray(), cells().X.toarray())


@pytest.mark.parametrize("ending", [".h5ad", ".zarr"])
def test_no_x_and_counts_in_a_layer(tmp_path, ending):
    data = AnnData(None, obs=cells().obs, var=cells().var, layers={"counts": cells().X})
    path = tmp_path / f"a{ending}"
    data.write_zarr(path) if ending == ".zarr" else data.write_h5ad(path)
    refused(lambda: loaded(path), "no layer 'X'; layers present: counts; set data.layer")
    assert loaded(path, layer="counts").shape == (60, 30)


# --- controls ---
@pytest.mark.parametrize(
    ("levels", "control"),
    [([True, False], False), ([1, 0], 0), ([1.0, 0.0], 0.0), (["YES", "NO"], "NO"), (["a", "nan"], "nan")],
)
def test_controls_of_any_plain_type(tmp_path, levels, control):
    data = with_column("treated", np.array(levels)[np.arange(60) % 2])
    found = load(tmp_path, data, conditions=["treated"], perturbation_key="treated", control=control)
    assert (found.obs["treated"].astype(str) == str(control)).sum() == 30


@pytest.mark.parametrize("kind", ["h5ad", "perturbseq_h5ad"])
def test_controls_that_are_the_cells_without_a_label(tmp_path, kind):
    data = with_column("gene", pd.Categorical([None if i % 4 == 0 else SYMBOLS[i % 3] for i in range(60)]))
    data.write_h5ad(tmp_path / "a.h5ad")
    screen = {"kind": kind, "conditions": ["gene"], "perturbation_key": "gene", "control": "control"}
    line = refused(
        lambda: loaded(tmp_path / "a.h5ad", **screen), "15 of 60 cells have no label: if these are the controls"
    )
    assert "'data.fill_missing={gene: control}'" in line
    found = loaded(tmp_path / "a.h5ad", **screen, fill_missing={"gene": "control"})
    assert (found.obs["gene"] == "control").sum() == 15
    labelled = with_column("gene", [None if i == 1 else ["control", SYMBOLS[0]][i % 2] for i in range(60)])
    labelled.write_h5ad(tmp_path / "a.h5ad")
    refused(
        lambda: loaded(tmp_path / "a.h5ad", **screen),
        "'gene' is missing in 1 of 60 cells; drop them with data.drop_missing=true, or if they are controls 'data.fill",
    )


def test_a_control_that_hydra_reads_as_a_number():
    refused(
        lambda: make("data", "simulated", control=float("nan")),
        "data.control=nan is read as a missing number",
        "data.control='\"nan\"'",
        "data.fill_missing={treatment: control}",
    )


# --- names of genes ---
def census() -> AnnData:
    """As the CELLxGENE census gives slices: positions for names, ids and symbols in columns."""
    data = cells()
    data.var = pd.DataFrame(
        {
            "feature_id": [f"ENSG{g:011d}" for g in range(30)],
            "feature_name": SYMBOLS,
            "feature_type": "Gene Expression",
        },
        index=[str(g) for g in range(30)],
    )
    return data


def test_positions_for_names_are_told_the_column_of_symbols(tmp_path):
    refused(
        lambda: load(tmp_path, census()),
        "the gene names are numbers (0, 1, 2, ...: positions or Entrez ids)",
        "var has symbols in 'feature_name'; set data.symbol_key=feature_name",
    )
    found = load(tmp_path, census(), symbol_key="feature_name", gene_id_key="feature_id")
    assert list(found.var_names) == SYMBOLS
    assert found.var[keys.GENE_ID].iloc[3] == "ENSG00000000003"


def test_a_column_of_symbols_is_used_whatever_the_index_holds(tmp_path):
    data = cells()
    data.var["name"] = [f"OTHER{g}" for g in range(30)]
    data.var["id"] = [f"ENSG{g:011d}" for g in range(30)]
    found = load(tmp_path, data, symbol_key="name", gene_id_key="id")
    assert found.var_names[0] == "OTHER0"
    assert found.var[keys.GENE_ID].iloc[0] == "ENSG00000000000"
    refused(lambda: load(tmp_path, data, symbol_key="nome"), "no column 'nome' in var (name, id); set data.symbol_key")
    refused(lambda: load(tmp_path, data, gene_id_key="ids"), "no column 'ids' in var (name, id); set data.gene_id_key")
    assert load(tmp_path, data, symbol_key="nome", gene_id="auto").var_names[0] == SYMBOLS[0]  # "auto": what is there


def test_ensembl_ids_are_told_the_column_of_symbols(tmp_path):
    data = census()
    data.var.index = data.var["feature_id"].to_numpy()
    refused(lambda: load(tmp_path, data), "look like Ensembl ids", "data.symbol_key=feature_name")


def test_symbols_of_raw_counts_are_found_in_var(tmp_path):
    ids = [f"ENSG{g:011d}" for g in range(30)]
    data = AnnData(np.log1p(cells().X), obs=cells().obs, var=pd.DataFrame({"feature_name": SYMBOLS}, index=ids))
    data.raw = AnnData(cells().X, obs=cells().obs, var=pd.DataFrame(index=ids))
    data = data[:, 5:].copy()  # the symbols of five genes are nowhere
    found = load(tmp_path, data, layer="raw", symbol_key="feature_name")
    assert list(found.var_names[:6]) == [*ids[:5], SYMBOLS[5]]
    assert found.var[keys.GENE_ID].iloc[7] == ids[7]


# --- files that are not there ---
@pytest.mark.parametrize(
    ("kind", "settings"),
    [("h5ad", {}), ("h5ad", {"perturbation_key": "p", "control": "c"}), ("perturbseq_h5ad", {}), ("norman", {})],
)
def test_a_missing_file_is_missed_before_its_columns(tmp_path, kind, settings):
    path = tmp_path / "none.h5ad"
    line = refused(lambda: make("data", kind, path=str(path), conditions=[], **settings), f"{path}: no such file")
    assert "data.path=" in line


def test_a_cache_that_cannot_be_written(tmp_path):
    cells().write_h5ad(tmp_path / "a.h5ad")
    (tmp_path / "cache").write_text("a file")
    refused(lambda: loaded(tmp_path / "a.h5ad"), f"{tmp_path}/cache/prepared", "paths.cache=")


def test_what_a_killed_preparation_left_is_swept(tmp_path):
    cells().write_h5ad(tmp_path / "a.h5ad")
    source = make("data", "h5ad", path=str(tmp_path / "a.h5ad"), conditions=["cell_type"])
    path = source.prepared_path(tmp_path / "cache")
    path.parent.mkdir(parents=True)
    (left := path.with_name(f".{path.stem}.4194399.h5ad")).write_bytes(b"half")
    (other := path.with_name(".another-set.4194399.h5ad")).write_bytes(b"half")
    source.load(tmp_path / "cache")
    assert not left.exists()
    assert other.exists()  # another set's may be at work


# --- splits ---
ROLES = Columns(name="toy", conditions=["cell_type", "donor"], batch="donor")


@pytest.mark.parametrize(
    ("strategy", "settings", "words"),
    [
        ("unseen", {"fraction": 0}, ["split.fraction=0", "greater than 0"]),
        ("gears", {"seed": -1}, ["split.seed=-1", "greater than or equal to 0"]),
        ("new_cells", {"share": 0}, ["split.share=0"]),
        ("new_cells", {"share": 0.99}, ["leaves no cell of batch d1 to train on", "split.share"]),
    ],
)
def test_a_split_that_makes_no_sense(strategy, settings, words):
    refused(lambda: make("split", strategy, **settings)(cells(), ROLES, 0), *words)


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe", b"a,b\n1,2,3\n", b"cell,part\nc0,train\n"])
def test_a_saved_split_that_is_none(tmp_path, content):
    (tmp_path / "split.csv").write_bytes(content)
    split = make("split", "file", path=str(tmp_path / "split.csv"))
    refused(lambda: split(cells(), ROLES, 0), str(tmp_path / "split.csv"))


# --- numbers that a model is asked for ---
def test_numbers_are_checked_where_they_are_told():
    known = Conditions.fit(cells().obs, ["cell_type", "dose"])
    assert known.outside(cells().obs) == []
    asked = pd.DataFrame({"dose": [5.0, -5.0, 1e6, np.nan]})
    far, missing = known.outside(asked)
    assert "condition dose=1e+06 lies outside of what training had, 0 to 10 (2 of 4 cells)" in far
    assert "condition dose is missing in 1 of 4 cells: it is taken as not told" in missing
    assert np.isnan(known.encode(asked)["dose"].numpy()).tolist() == [False, False, False, True]
    refused(lambda: known.encode(pd.DataFrame({"dose": ["high"]})), "dose is numeric, but holds 'high'")
    refused(lambda: known.encode(pd.DataFrame({"dose": [np.inf]})), "dose is numeric, but holds inf")
    again = Conditions.from_list(known.to_list())
    assert again == known
    assert again.outside(asked) == [far, missing]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["dose", "dose"], "condition dose is named twice"),
        (["library_size"], "condition library_size is a name that scsave writes itself"),
        (["colour"], "condition colour is no column of obs (cell_type, donor"),
        (["time"], "condition time is missing or infinite in 2 of 60 training cells"),
    ],
)
def test_a_vocabulary_that_cannot_be_made(names, words):
    obs = cells().obs.assign(library_size=1.0, time=[np.inf, np.nan] + [1.0] * 58)
    refused(lambda: Conditions.fit(obs, names), words)
