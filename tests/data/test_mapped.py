"""Cells too large for memory are the same cells: their arrays lie in files, which leave nothing behind."""

import errno
import os
import tempfile

import h5py
import numpy as np
import pytest

from scsave import keys
from scsave.data.preprocess import select_cells, select_genes
from scsave.errors import UserError
from scsave.stats import mapped, moments
from scsave.stats.mapped import folder_of, release
from scsave.training.loader import CellRows

from .sources import h5ad, make, tiny

ARRAYS = ("data", "indices", "indptr")


@pytest.fixture
def small(monkeypatch):
    """The sizes of large cells, brought down to those of a test: several parts, and each on disk."""
    monkeypatch.setattr(mapped, "LARGE", 0)
    monkeypatch.setattr(moments.parts, "__defaults__", (64, None))


def chosen(source, cache):
    cells = source.load(cache)
    rows = np.random.default_rng(0).permutation(cells.n_obs)[:200]
    genes = select_genes(cells, np.sort(rows), n_top_genes=20)
    return cells, genes, select_cells(genes, rows), select_cells(genes, rows[:0])


def same(one, other):
    for a, b in ((one.X, other.X), (one.layers[keys.COUNTS], other.layers[keys.COUNTS])):
        for name in ARRAYS:
            found, expected = getattr(a, name), getattr(b, name)
            np.testing.assert_array_equal(found, expected)
            assert found.dtype == expected.dtype
    assert one.obs.equals(other.obs)
    assert one.var.equals(other.var)


def test_they_are_those_in_memory_bit_by_bit(tmp_path, request):
    source = h5ad(tmp_path / "a.h5ad", tiny(cells=300, genes=40))
    within = chosen(source, tmp_path / "one")
    request.getfixturevalue("small")
    beyond = chosen(source, tmp_path / "two")
    for a, b in zip(within, beyond, strict=True):
        same(a, b)
        assert folder_of(a.X) is None
    assert [folder_of(cells.layers[keys.COUNTS]) for cells in beyond[:3]] == [tmp_path / "two" / "prepared"] * 3
    assert {path.suffix for path in (tmp_path / "two" / "prepared").iterdir()} == {".h5ad", ".lock"}


def test_rare_levels_go_from_them_too(tmp_path, small):
    data = tiny(cells=300)
    data.obs["cell_type"] = ["rare", *["A"] * 299]
    cells = h5ad(tmp_path / "a.h5ad", data, rare_levels="drop").load(tmp_path)
    assert cells.n_obs == 299
    assert list(cells.obs["cell_type"].cat.categories) == ["A"]
    same(cells, select_cells(cells, np.arange(299)))


def test_training_takes_them_as_they_are(tmp_path, small):
    cells = h5ad(tmp_path / "a.h5ad", tiny(cells=300)).load(tmp_path)
    counts = cells.layers[keys.COUNTS]
    rows = CellRows(counts, cells.obs[keys.LIBRARY].to_numpy())
    assert all(np.shares_memory(getattr(rows.counts, name), getattr(counts, name)) for name in ("data", "indices"))
    before = rows.batch([5, 280, 3])["counts"].numpy()
    release(counts)
    release(rows.counts)
    np.testing.assert_array_equal(rows.batch([5, 280, 3])["counts"].numpy(), before)


def test_more_counts_than_32_bits_can_number(tmp_path, small, monkeypatch):
    source = h5ad(tmp_path / "a.h5ad", tiny(cells=300))
    expected = source.load(tmp_path).X
    monkeypatch.setattr(mapped, "MOST_INT32", 100)
    monkeypatch.setattr(mapped, "PIECE", 1000)
    counts, _ = mapped.stacked([(expected[:120], expected[:120]), (expected[120:], expected[120:])], tmp_path)
    assert (counts != expected).nnz == 0


def test_simulated_cells_are_drawn_to_disk(tmp_path, small):
    settings = {"n_cells": 5000, "n_genes": 20, "n_modules": 3}
    expected = make("data", "simulated", **settings).draw()
    drawn = make("data", "simulated", **settings).draw(tmp_path)
    assert folder_of(drawn.X) == tmp_path
    assert folder_of(expected.X) is None
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(drawn.X, name), getattr(expected.X, name))


def test_a_folder_that_is_gone_gives_way_to_the_one_above(tmp_path, small):
    x = tiny().X
    assert folder_of(mapped.stacked([(x,)], tmp_path / "gone" / "deep")[0]) == tmp_path


def test_no_room_is_said_in_one_line_that_blames_no_file(tmp_path, small, monkeypatch):
    def full(*args, **named):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    source = h5ad(tmp_path / "a.h5ad", tiny())
    monkeypatch.setattr(tempfile, "mkstemp", full)
    with pytest.raises(UserError, match=r"No space left.*paths\.cache") as raised:
        source.load(tmp_path)
    assert "delete" not in str(raised.value)


def test_damaged_counts_are_the_fault_of_their_file(tmp_path, small):
    source = h5ad(tmp_path / "a.h5ad", tiny(cells=3000, genes=40))
    source.load(tmp_path)
    path = next((tmp_path / "prepared").glob("*.h5ad"))
    with h5py.File(path) as file:
        place = file[f"layers/{keys.COUNTS}/indices"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[place.byte_offset : place.byte_offset + place.size] = os.urandom(place.size)
    path.write_bytes(content)
    with pytest.raises(UserError, match="delete this file") as raised:
        source.load(tmp_path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
