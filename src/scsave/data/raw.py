"""What a file holds before anyone has judged it: tables in memory, matrices that may still be on disk."""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from anndata.utils import make_index_unique
from rich.progress import track

from scsave.data.files import check_h5ad, check_hdf5
from scsave.errors import UserError

X, RAW = "X", "raw"
ENTRIES_AT_A_TIME = 2**27  # cells x genes of one chunk, read dense or not


@dataclass
class RawCells:
    """Cells as their file has them. `matrices` maps `X`, each layer and `raw` to a matrix (N, G) and its var (G rows).

    A matrix answers `matrix[start:stop]` with rows, sparse or dense, wherever it lives.
    """

    obs: pd.DataFrame
    matrices: dict[str, tuple[Any, pd.DataFrame]]
    uns: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, data: AnnData) -> "RawCells":
        """The same for cells in memory."""
        matrices = {name: (matrix, data.var) for name, matrix in data.layers.items()}
        if data.X is not None:
            matrices[X] = (data.X, data.var)
        if data.raw is not None:
            matrices[RAW] = (data.raw.X, data.raw.var)
        return cls(data.obs, matrices, dict(data.uns))

    def matrix(self, layers: list[str], where: str) -> tuple[str, Any, pd.DataFrame]:
        """The first of `layers` that is there, with its name and var; raises UserError listing what is there."""
        for name in layers:
            if name in self.matrices:
                return (name, *self.matrices[name])
        there = ", ".join(self.matrices) or "none"
        raise UserError(f"{where}: no layer '{layers[0]}'; layers present: {there}; set data.layer (null means X)")

    def chunks(self, matrix: Any, keep: np.ndarray, doing: str) -> Iterator[tuple[np.ndarray, sp.csr_matrix]]:
        """Positions and rows of the cells to keep, (n,) and CSR (n, G), a chunk of rows at a time.

        On a terminal, a bar says what it is `doing` where there are several chunks.
        """
        step = max(256, ENTRIES_AT_A_TIME // max(matrix.shape[1], 1))
        starts = range(0, len(keep), step)
        for start in track(starts, doing, disable=len(starts) < 3 or not sys.stderr.isatty(), transient=True):
            rows = np.flatnonzero(keep[start : start + step])
            if len(rows):
                part = sp.csr_matrix(matrix[start : start + step])
                yield start + rows, part if len(rows) == part.shape[0] else part[rows]


def _on_disk(element: Any) -> Any:
    """A matrix element of an open file that can be read by rows: CSR and dense stay there, the rest is read."""
    if hasattr(element, "dtype"):  # a dataset or array, not a group
        return element
    if element.attrs.get("encoding-type", "") == "csr_matrix":
        return anndata.io.sparse_dataset(element)
    return sp.csr_matrix(anndata.io.read_elem(element))


def _open(file: Any) -> RawCells:
    """Cells of an open AnnData file, HDF5 or zarr, whose matrices stay where they are."""
    obs, var = anndata.io.read_elem(file["obs"]), anndata.io.read_elem(file["var"])
    layers = file.get("layers", {})
    matrices = {name: (_on_disk(layers[name]), var) for name in layers}
    if "X" in file:
        matrices[X] = (_on_disk(file["X"]), var)
    if hasattr(file.get("raw"), "keys"):  # a zarr store without raw has a null there
        matrices[RAW] = (_on_disk(file["raw/X"]), anndata.io.read_elem(file["raw/var"]))
    return RawCells(obs, matrices)


@contextmanager
def open_h5ad(path: Path) -> Iterator[RawCells]:
    """An `.h5ad` whose matrices stay on disk while it is open; UserError where it is not a whole one."""
    import h5py

    check_h5ad(path)
    try:
        with warnings.catch_warnings(), h5py.File(path, "r") as file:
            warnings.simplefilter("ignore")
            if file.attrs.get("encoding-type") != "anndata":  # written before anndata 0.8: read whole
                file.close()
                yield RawCells.of(anndata.read_h5ad(path))
                return
            yield _open(file)
    except (OSError, KeyError) as error:
        raise UserError(f"{path}: truncated or damaged h5ad ({error}); delete it and get it again") from error


@contextmanager
def in_memory(make: Callable[[], AnnData]) -> Iterator[RawCells]:
    """Cells that are made, not read."""
    yield RawCells.of(make())


class LoomRows:
    """The genes x cells matrix of a loom file, read as rows of cells."""

    def __init__(self, dataset: Any):
        self.dataset, self.shape = dataset, dataset.shape[::-1]

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self.dataset[:, rows].T


@contextmanager
def open_loom(path: Path) -> Iterator[RawCells]:
    """A loom file (loompy 2 and 3) whose matrices stay on disk while it is open."""
    import h5py

    check_hdf5(path, {"matrix", "row_attrs", "col_attrs"})
    with h5py.File(path, "r") as file:
        obs, var = (
            pd.DataFrame({k: v.asstr()[()] if v.dtype.kind in "SO" else v[()] for k, v in group.items() if v.ndim == 1})
            for group in (file["col_attrs"], file["row_attrs"])
        )
        obs = obs.set_index("CellID") if "CellID" in obs else obs
        var = var.set_index("Gene") if "Gene" in var else var
        matrices = {name: (LoomRows(matrix), var) for name, matrix in file.get("layers", {}).items()}
        yield RawCells(obs, {X: (LoomRows(file["matrix"]), var)} | matrices)


@contextmanager
def open_zarr(path: Path) -> Iterator[RawCells]:
    """An AnnData zarr store (a folder) whose matrices stay on disk; UserError where it is not a whole one."""
    import zarr

    if not path.is_dir():
        raise UserError(f"{path}: no such zarr store; give data.path=<an existing folder that ends in .zarr>")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file = zarr.open_group(str(path), mode="r")
            if file.attrs.get("encoding-type") != "anndata":
                raise UserError(f"{path}: a zarr store, but not of AnnData (write one with AnnData.write_zarr)")
            yield _open(file)
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path}: damaged or not a zarr store ({error})") from error


READERS = {".h5ad": open_h5ad, ".loom": open_loom, ".zarr": open_zarr}


def open_cells(path: Path) -> AbstractContextManager[RawCells]:
    """The reader that the file's name asks for; UserError for another kind of file."""
    if path.is_dir() and path.suffix not in READERS:
        files = sorted(file.name for file in path.iterdir() if file.suffix in READERS)
        there = f"; in it: {', '.join(files[:5])}" if files else ""
        raise UserError(f"{path}: a folder; data.path names one file{there}")
    if path.suffix not in READERS:
        raise UserError(f"{path}: cannot read a '{path.suffix}' file; give one of {', '.join(READERS)}")
    return READERS[path.suffix](path)


def rejoined(obs: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Columns of prepared cells, and behind them those of their file at `path` that were not carried along."""
    with open_cells(path) as raw:
        whole = raw.obs.set_axis(make_index_unique(pd.Index(raw.obs.index.astype(str))), axis=0)
    more = whole.loc[:, ~whole.columns.isin(obs.columns) & ~whole.columns.duplicated()]
    return obs.rename_axis(None).join(more)  # the name of the index may be that of a column
