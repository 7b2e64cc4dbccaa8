"""Files laid out as nobody foresaw: each is read right, or refused in one line that says what and what to do."""

import logging
import re
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData
from hydra.core.override_parser.overrides_parser import OverridesParser

from scsave import keys
from scsave.files import slug
from scsave.runs.naming import plain_value
from tests.data.sources import make
from tests.robustness.test_inputs import SYMBOLS, cells, load, loaded, refused, with_column

COUNTS = cells().X.toarray()


def of(values) -> AnnData:
    """The cells with another matrix."""
    return AnnData(values, obs=cells().obs, var=cells().var)


def named(genes: list[str]) -> AnnData:
    data = cells()
    data.var_names = genes
    return data


def changed(*rows: tuple) -> np.ndarray:
    values = COUNTS.astype(np.float64)
    for at, value in rows:
        values[at] = value
    return values


def unsorted() -> sp.csr_matrix:
    values = sp.csr_matrix(COUNTS)
    for row in range(len(COUNTS)):
        part = slice(values.indptr[row], values.indptr[row + 1])
        values.indices[part], values.data[part] = values.indices[part][::-1].copy(), values.data[part][::-1].copy()
    values.has_sorted_indices = False
    return values


SAME = {
    "int64": of(sp.csr_matrix(COUNTS.astype(np.int64))),
    "uint8, dense": of(COUNTS.astype(np.uint8)),
    "float64, dense": of(COUNTS.astype(np.float64)),
    "float16, dense": of(COUNTS.astype(np.float16)),
    "csc": of(sp.csc_matrix(COUNTS)),
    "unsorted indices": of(unsorted()),
    "stored zeros": of(sp.csr_matrix((np.zeros(2), ([0, 1], [1, 2])), shape=COUNTS.shape) + sp.csr_matrix(COUNTS)),
    "a category without cells": with_column(
        "cell_type", pd.Categorical(["B", "T"] * 30, categories=["none", "B", "T"])
    ),
    "a level in other letters": with_column("cell_type", ["Ж клетка", "T/β+ 細胞 (γδ)"] * 30),
    "levels with spaces, plus and equals signs": with_column("cell_type", ["B + T = ?", " a, b "] * 30),
    "levels that are numbers": with_column("cell_type", pd.Categorical(np.arange(60) % 2)),
    "levels that are truths": with_column("cell_type", np.arange(60) % 2 == 0),
    "levels of dates": with_column("cell_type", ["2020-01-01", "12:30"] * 30),
    "genes of spaces": named([f" gene {g}" for g in range(30)]),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_counts_however_they_lie(tmp_path, name):
    found = load(tmp_path, SAME[name])
    np.testing.assert_array_equal(found.layers[keys.COUNTS].toarray(), COUNTS)
    assert found.obs["cell_type"].value_counts().to_list() == [30, 30]
    assert np.isfinite(found.X.data).all()


def test_a_level_keeps_its_spelling(tmp_path):
    found = load(tmp_path, SAME["levels with spaces, plus and equals signs"])
    assert set(found.obs["cell_type"]) == {"B + T = ?", " a, b "}


def test_columns_of_bytes_are_text(tmp_path):
    cells().write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "a") as file:
        del file["obs/cell_type"]
        file["obs/cell_type"] = np.array([b"B", b"T"] * 30)
    assert set(loaded(tmp_path / "a.h5ad").obs["cell_type"]) == {"B", "T"}


def test_entries_that_are_stored_twice_are_added_up(tmp_path):
    cells().write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "a") as file:
        file["X/indices"][1] = file["X/indices"][0]
    found = loaded(tmp_path / "a.h5ad").layers[keys.COUNTS]
    assert found.sum() == COUNTS.sum()
    assert found[0, 0] == sp.csr_matrix(COUNTS).data[:2].sum()


def test_counts_in_raw_alone(tmp_path):
    data = AnnData(None, obs=cells().obs, var=cells().var)
    data.raw = cells()
    refused(lambda: load(tmp_path, data), "no layer 'X'; layers present: raw; set data.layer")
    assert load(tmp_path, data, layer="raw").layers[keys.COUNTS].sum() == COUNTS.sum()


def test_very_deep_libraries(tmp_path):
    found = load(tmp_path, of(COUNTS * np.float32(1e6)))
    assert np.isfinite(found.X.data).all()
    np.testing.assert_allclose(found.X.toarray(), load(tmp_path, cells()).X.toarray(), rtol=1e-5)


def test_one_gene_and_genes_that_are_never_seen(tmp_path):
    assert load(tmp_path, cells()[:, :1].copy()).shape == (60, 1)
    found = load(tmp_path, of(np.where(np.arange(30) < 5, COUNTS, 0)))
    assert found.shape == (60, 30)
    assert np.isfinite(found.X.data).all()


ODD = [
    (
        "genes of one name",
        named(["GENE1A"] * 2 + SYMBOLS[2:]),
        {},
        ["1 gene names occur more than once (GENE1A)", "data.duplicate_genes=sum"],
    ),
    ("a NaN among the counts", of(changed(((3, 3), np.nan))), {}, ["1 entries are NaN or infinite", "data.layer"]),
    ("a count beyond float32", of(changed(((3, 3), 1e300))), {}, ["1 entries are NaN or infinite", "data.layer"]),
    ("centred values", of(COUNTS - 3), {}, ["negative", "scaled data, not counts"]),
    ("cells without counts", of(changed((slice(3), 0))), {}, ["3 cells have no counts; set data.min_genes=1"]),
    ("no X at all", AnnData(None, obs=cells().obs, var=cells().var), {}, ["layers present: none"]),
    (
        "no columns of obs",
        AnnData(cells().X, var=cells().var),
        {},
        ["no column 'cell_type' in obs; columns present: none"],
    ),
    (
        "a type for each cell",
        with_column("cell_type", [f"t{c}" for c in range(60)]),
        {},
        ["has one cell, 2 are needed (60 such levels)"],
    ),
    (
        "a type for each cell, dropped",
        with_column("cell_type", [f"t{c}" for c in range(60)]),
        {"rare_levels": "drop"},
        ["no cell is left"],
    ),
    ("no cells", cells()[:0].copy(), {}, ["no cell is left"]),
    ("one cell", cells()[:1].copy(), {}, ["level 'B' of 'cell_type' has one cell"]),
    (
        "a batch that is missing throughout",
        with_column("lane", [np.nan] * 60),
        {"batch_key": "lane"},
        ["'lane' is missing in 60 of 60 cells"],
    ),
    ("no column of batches", cells(), {"batch_key": "lane"}, ["no column 'lane' in obs", "set data.batch_key"]),
    (
        "a broken expression of names",
        cells(),
        {"from_names": {"cell_type": "-(\\d+$"}},
        ["data.from_names: '-(\\d+$' is no regular expression"],
    ),
    ("a broken expression of genes", cells(), {"drop_genes": "["}, ["data.drop_genes: '[' is no regular expression"]),
    (
        "an expression that fits no name",
        cells(),
        {"conditions": ["lane"], "from_names": {"lane": "x(\\d+)$"}},
        ["'lane' is missing in 60 of 60 cells"],
    ),
    (
        "an expression without a group",
        cells(),
        {"conditions": ["lane"], "from_names": {"lane": "x"}},
        ["data.from_names: 'x' has no group"],
    ),
    ("every gene dropped", cells(), {"drop_genes": "GENE"}, ["data.drop_genes='GENE' drops every gene"]),
    ("no cell with so many genes", cells(), {"min_genes": 100}, ["no cell is left", "data.min_genes"]),
    (
        "numbers of a column that is not read",
        cells(),
        {"numeric": ["dosis"]},
        ["data.numeric names 'dosis', which is none of the columns that are read (cell_type)"],
    ),
    ("levels of a column that is not read", cells(), {"levels": {"donor": {"d1": "x"}}}, ["data.levels names 'donor'"]),
    (
        "a label of a column that is not read",
        cells(),
        {"fill_missing": {"donor": "x"}},
        ["data.fill_missing names 'donor'"],
    ),
    ("an excluded column that is not read", cells(), {"exclude": {"donor": ["d1"]}}, ["data.exclude names 'donor'"]),
]


@pytest.mark.parametrize(("data", "settings", "words"), [case[1:] for case in ODD], ids=[case[0] for case in ODD])
def test_refused_in_one_line(tmp_path, data, settings, words):
    refused(lambda: load(tmp_path, data, **settings), *words)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"levels": {"cell_type": {"Bcell": "b"}}},
            "data.levels={cell_type: ...} renames Bcell, but 'cell_type' has none of them: B, T",
        ),
        (
            {"exclude": {"cell_type": ["Mono"]}},
            "data.exclude={cell_type: ...} leaves out Mono, but 'cell_type' has none of them: B, T",
        ),
    ],
)
def test_an_option_that_changes_nothing_is_said(tmp_path, caplog, settings, words):
    with caplog.at_level(logging.WARNING, "scsave"):
        assert load(tmp_path, cells(), **settings).n_obs == 60
    assert words in caplog.text


@pytest.mark.parametrize("content", [b"", b"cell,gene\n1,2\n", b"<!DOCTYPE html><html>", b"\x89HDF\r\n\x1a\n"])
def test_a_file_that_is_none(tmp_path, content):
    (tmp_path / "a.h5ad").write_bytes(content)
    refused(lambda: loaded(tmp_path / "a.h5ad"), f"{tmp_path}/a.h5ad")


def test_a_folder_and_another_ending(tmp_path):
    (tmp_path / "a.h5ad").mkdir()
    refused(lambda: loaded(tmp_path / "a.h5ad"), "a.h5ad: a folder, not a file")
    (tmp_path / "a.csv").write_text("x")
    refused(lambda: loaded(tmp_path / "a.csv"), "cannot read a '.csv' file")


@pytest.mark.parametrize("gone", ["the index", "the sparse format", "the columns' order"])
def test_a_table_or_matrix_without_what_names_it(tmp_path, gone):
    path = tmp_path / "a.h5ad"
    cells().write_h5ad(path)
    with h5py.File(path, "a") as file:
        if gone == "the index":
            del file["obs"][file["obs"].attrs["_index"]]
        elif gone == "the sparse format":
            for name in list(file["X"].attrs):
                del file["X"].attrs[name]
        else:
            del file["obs"].attrs["column-order"]
    refused(lambda: loaded(path), str(path))


def test_control_cells_in_one_batch_alone_are_read(tmp_path):
    """Batch and perturbation are one there: the decoder is not told the batch, and that is said when it is fitted."""
    from scsave.method.technical import technical_columns

    data = cells()
    data.obs["state"] = np.where(data.obs["donor"] == "d1", "ctrl", "stim")
    roles = {"perturbation_key": "state", "control": "ctrl", "batch_key": "donor", "conditions": ["cell_type"]}
    found = load(tmp_path, data, **roles)
    source = make("data", "h5ad", path=str(tmp_path / "a.h5ad"), **roles)
    assert technical_columns(source.roles, found.obs) == []


def test_zarr_with_a_sparse_layer_on_disk(tmp_path):
    data = of(np.log1p(COUNTS))
    data.layers["counts"] = sp.csc_matrix(COUNTS)
    with anndata.settings.override(zarr_write_format=3):
        data.write_zarr(Path(tmp_path / "a.zarr"))
    np.testing.assert_array_equal(loaded(tmp_path / "a.zarr", layer="counts").layers[keys.COUNTS].toarray(), COUNTS)


@pytest.mark.parametrize("label", ["", " ", "\t"])
def test_a_label_without_a_letter_is_none(tmp_path, label):
    """A type called "" would be a fold, and a folder, without a name."""
    data = with_column("cell_type", [label, "T"] * 30)
    refused(lambda: load(tmp_path, data), "'cell_type' is missing in 30 of 60 cells")
    assert load(tmp_path, data, fill_missing={"cell_type": "none"}).obs["cell_type"].value_counts().to_list() == [
        30,
        30,
    ]


@pytest.mark.parametrize("level", [keys.MASK, keys.ALL, keys.POOLED])
def test_a_level_called_as_the_product_calls_something_else(tmp_path, level):
    """A type called "all" would take the place of the aggregate over types in every table."""
    data = with_column("cell_type", [level, "T"] * 30)
    line = refused(lambda: load(tmp_path, data), f"'cell_type' has a level '{level}'", "rename it")
    (hint,) = re.findall(r"'(data\.levels=.*)'$", line)
    levels = plain_value(OverridesParser.create().parse_override(hint).value())
    assert set(load(tmp_path, data, levels=levels).obs["cell_type"]) == {"other", "T"}
    kept = with_column("site", [level, "x"] * 30)
    if level != keys.MASK:
        assert set(load(tmp_path, kept, keep=["site"]).obs["site"]) == {level, "x"}


def test_a_missing_dose_can_be_filled_as_the_message_says(tmp_path):
    data = with_column("dose", [np.nan, 2.0] * 30)
    line = refused(lambda: load(tmp_path, data, conditions=["dose"]), "'data.fill_missing={dose: 0}'")
    hint = re.findall(r"'(data\.fill_missing=.*)'", line)[0]
    filling = plain_value(OverridesParser.create().parse_override(hint).value())
    assert set(load(tmp_path, data, conditions=["dose"], fill_missing=filling).obs["dose"]) == {0.0, 2.0}


def test_names_of_any_length_are_names_of_files():
    names = ["B" * 500, "B" * 501, "B", "a/b", "../../x", "..", "", "NK", "b" * 80]
    slugs = [slug(name) for name in names]
    assert len(set(slugs)) == len(names)
    assert max(map(len, slugs)) < 100
    assert not any("/" in name or name.startswith(".") for name in slugs)
    assert slugs[-2:] == ["NK", "b" * 80]


@pytest.mark.parametrize("ending", [".h5ad", ".zarr"])
def test_a_layer_called_raw_beside_raw(tmp_path, ending):
    data = cells()
    data.layers["raw"], data.raw, path = data.X * 2, cells(), tmp_path / f"a{ending}"
    data.write_zarr(path) if ending == ".zarr" else data.write_h5ad(path)
    refused(lambda: loaded(path, layer="raw"), "there is a layer called 'raw' beside raw.X")
    assert loaded(path).layers[keys.COUNTS].sum() == COUNTS.sum()
    del data.raw
    assert load(tmp_path, data, layer="raw").layers[keys.COUNTS].sum() == 2 * COUNTS.sum()


@pytest.mark.parametrize("way", ["a link", "its storage", "a virtual dataset"])
def test_a_file_has_no_other_file_read(tmp_path, way):
    cells().write_h5ad(tmp_path / "theirs.h5ad")
    (tmp_path / "secret").write_bytes(np.full((60, 30), 7, dtype=np.float32).tobytes())
    of(COUNTS).write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "a") as file:
        del file["X"]
        if way == "a link":
            file["X"] = h5py.ExternalLink(str(tmp_path / "theirs.h5ad"), "/X")
        elif way == "its storage":
            file.create_dataset("X", (60, 30), "f4", external=[(str(tmp_path / "secret"), 0, h5py.h5f.UNLIMITED)])
        else:
            layout = h5py.VirtualLayout((60, 30), "f4")
            layout[:] = h5py.VirtualSource(str(tmp_path / "theirs.h5ad"), "X", (60, 30))
            file.create_virtual_dataset("X", layout)
    refused(lambda: loaded(tmp_path / "a.h5ad"), "a.h5ad: X lies in another file, which is not opened")
