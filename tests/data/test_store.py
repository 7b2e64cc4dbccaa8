import subprocess
import sys

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

from scsave import keys
from scsave.data import read
from scsave.data.source import build_once, read_prepared
from scsave.errors import UserError

from .sources import h5ad, make, tiny


def test_chunks_of_rows_give_the_same_cells(tmp_path, monkeypatch):
    data = tiny(cells=1200, genes=40)
    whole = h5ad(tmp_path / "a.h5ad", data, exclude={"cell_type": ["B"]}).load(tmp_path / "one")
    monkeypatch.setattr(read, "ENTRIES_AT_A_TIME", 1)  # 256 rows, the least
    parts = h5ad(tmp_path / "a.h5ad", data, exclude={"cell_type": ["B"]}).load(tmp_path / "many")
    np.testing.assert_array_equal(whole.X.toarray(), parts.X.toarray())
    np.testing.assert_array_equal(whole.obs_names, parts.obs_names)


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, sp.csr_matrix.toarray])
def test_every_layout_of_the_matrix_gives_the_same_cells(tmp_path, form):
    data = tiny(cells=300)
    expected = data.X.toarray()
    data.X = form(data.X)
    cells = h5ad(tmp_path / "a.h5ad", data).load(tmp_path)
    np.testing.assert_array_equal(cells.layers[keys.COUNTS].toarray(), expected)


def test_subset_on_the_way_in_keeps_library_sizes(tmp_path):
    data = tiny(cells=500, genes=30)
    counts = data.X.toarray()
    counts[:, 5:10] = 0
    counts[:20, 5:10] = 50  # seen in few cells, many counts
    data.X = sp.csr_matrix(counts)
    source = h5ad(tmp_path / "a.h5ad", data, max_cells=100, max_genes=25)
    cells = source.load(tmp_path)
    assert cells.shape == (100, 25)
    assert not set(cells.var_names) & {f"G{g}" for g in range(5, 10)}
    rows = data.obs_names.get_indexer(cells.obs_names)
    np.testing.assert_array_equal(cells.obs[keys.LIBRARY], counts[rows].sum(1))
    np.testing.assert_array_equal(
        cells.layers[keys.COUNTS].toarray(), counts[rows][:, data.var_names.isin(cells.var_names)]
    )
    assert list(source.load(tmp_path / "other").obs_names) == list(cells.obs_names)


def test_genes_dropped_on_the_way_in(tmp_path):
    data = tiny()
    data.var_names = ["MT-A", "MT-B", *data.var_names[2:]]
    cells = h5ad(tmp_path / "a.h5ad", data, drop_genes="^MT-").load(tmp_path)
    assert cells.n_vars == 10
    np.testing.assert_array_equal(cells.obs[keys.LIBRARY], data.X.toarray().sum(1))


def test_expression_shares_its_index_arrays_with_the_counts(tmp_path):
    cells = h5ad(tmp_path / "a.h5ad", tiny()).load(tmp_path)
    assert np.shares_memory(cells.X.indices, cells.layers[keys.COUNTS].indices)
    assert cells.layers[keys.COUNTS].indices.dtype == np.int32


def test_prepared_once_for_one_source_and_settings(tmp_path):
    source = h5ad(tmp_path / "a.h5ad", tiny())
    source.load(tmp_path / "cache")
    h5ad(tmp_path / "a.h5ad", tiny(), n_top_genes=5).load(tmp_path / "cache")  # not a matter of preparation
    assert len(list((tmp_path / "cache/prepared").glob("*.h5ad"))) == 1
    h5ad(tmp_path / "a.h5ad", tiny(), min_genes=3).load(tmp_path / "cache")
    assert len(list((tmp_path / "cache/prepared").glob("*.h5ad"))) == 2
    h5ad(tmp_path / "a.h5ad", tiny(seed=1)).load(tmp_path / "cache")  # another file under the same name
    assert len(list((tmp_path / "cache/prepared").glob("*.h5ad"))) == 3


def test_a_failed_build_leaves_nothing_and_a_damaged_one_is_named(tmp_path):
    def fail(path):
        path.write_bytes(b"half")
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError):
        build_once(tmp_path / "a.h5ad", fail)
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".lock"] == []
    (tmp_path / "b.h5ad").write_bytes(b"half")
    with pytest.raises(UserError, match="delete this file"):
        read_prepared(tmp_path / "b.h5ad")


PROCESS = """
import sys, time
from pathlib import Path
from scsave.data.source import build_once

def build(path):
    with open(sys.argv[2], "a") as log:
        log.write("built\\n")
    time.sleep(1.0)
    path.write_text("whole")

print(build_once(Path(sys.argv[1]), build).read_text())
"""


def test_two_processes_at_once_build_once(tmp_path):
    command = [sys.executable, "-c", PROCESS, str(tmp_path / "a.h5ad"), str(tmp_path / "log")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=120)[0].strip() for process in running] == ["whole", "whole"]
    assert (tmp_path / "log").read_text() == "built\n"


def test_old_files_are_read_too(tmp_path):
    """A file without anndata's mark at its top, as versions before 0.8 wrote it."""
    import h5py

    tiny().write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "a") as file:
        for name in ("encoding-type", "encoding-version"):
            del file.attrs[name]
    from .sources import make

    cells = make("data", "h5ad", path=str(tmp_path / "a.h5ad"), conditions=["cell_type"]).load(tmp_path)
    np.testing.assert_array_equal(cells.layers[keys.COUNTS].toarray(), tiny().X.toarray())
    assert anndata.read_h5ad(tmp_path / "a.h5ad").shape == cells.shape


def test_cells_by_position_are_a_lean_copy(tmp_path):
    from scsave.data.preprocess import select_cells

    cells = h5ad(tmp_path / "a.h5ad", tiny()).load(tmp_path)
    rows = np.array([5, 3, 40])
    few = select_cells(cells, rows)
    assert list(few.obs_names) == list(cells.obs_names[rows])
    np.testing.assert_array_equal(few.X.toarray(), cells.X[rows].toarray())
    assert np.shares_memory(few.X.indices, few.layers[keys.COUNTS].indices)
    few.layers[keys.COUNTS].data[:] = 0
    assert cells.layers[keys.COUNTS].data.min() > 0


def test_a_zarr_store_is_read_by_rows_like_an_h5ad(tmp_path):
    data = tiny(cells=300)
    data.layers["counts"] = data.X.copy()
    data.write_zarr(tmp_path / "a.zarr")
    same = h5ad(tmp_path / "a.h5ad", data).load(tmp_path / "one")
    for layer in (None, "counts"):
        source = make("data", "h5ad", path=str(tmp_path / "a.zarr"), conditions=["cell_type"], layer=layer)
        cells = source.load(tmp_path / "two")
        np.testing.assert_array_equal(cells.X.toarray(), same.X.toarray())
        np.testing.assert_array_equal(cells.obs_names, same.obs_names)
    before = source.prepared_path(tmp_path)
    data[:200].copy().write_zarr(tmp_path / "a.zarr")
    assert source.prepared_path(tmp_path) != before  # another store under the same name


def test_what_is_no_store_is_named(tmp_path):
    (tmp_path / "empty.zarr").mkdir()
    (tmp_path / "a.csv").write_text("a,b")
    messages = {
        "none.zarr": "no such file",
        "empty.zarr": "damaged or not a zarr store",
        "a.csv": "cannot read a '.csv'",
        ".": "a folder; data.path names one file; in it: empty.zarr",
    }
    for name, message in messages.items():
        with pytest.raises(UserError, match=message):
            make("data", "h5ad", path=str(tmp_path / name), conditions=["cell_type"]).load(tmp_path)
