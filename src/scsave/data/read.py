"""Files of cells read by rows: .h5ad, .zarr and .loom as tables in memory and matrices that may stay on disk.

A matrix is checked against the tables, and a sparse one against its own format, before any of its values is used.
"""

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

from scsave.data.files import check_hdf5
from scsave.data.settings import X
from scsave.errors import UserError
from scsave.progress import each

RAW = "raw"
ENTRIES_AT_A_TIME = 2**25  # cells x genes of one chunk, read dense or not


@contextmanager
def readable(what: str, fault: str = "truncated or damaged") -> Iterator[None]:
    """Around reading of foreign bytes, which may raise anything: each becomes a UserError that says `what` is at fault."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{what}: {fault} ({type(error).__name__}: {str(error)[:300]}); get the file again") from error


class Rows:
    """One matrix, (N, G), sparse or dense, on disk or in memory, read and checked a slice of rows at a time.

    UserError where its shape is not `shape`, that of the tables, where it holds no numbers, or where its format is broken.
    """

    def __init__(self, element: Any, shape: tuple[int, int], what: str):
        self.shape, self.what = shape, what
        with readable(what):
            if hasattr(element, "keys"):  # a group on disk: CSR stays there, CSC is read
                stored = anndata.io.sparse_dataset(element)
                self._fits(stored.shape, element["data"].dtype)
                self._pointers(stored.format, *(element[name] for name in ("indptr", "indices", "data")))
                element = stored if stored.format == "csr" else stored.to_memory()
            elif sp.issparse(element):
                self._fits(element.shape, element.dtype)
                self._pointers(element.format, element.indptr, element.indices, element.data)
            else:
                self._fits(element.shape, element.dtype)
            if getattr(element, "format", "csr") == "csc":
                self._indices(element.indices, shape[0])
                element = sp.csr_matrix(element)
        self.element = element

    def _fits(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        if tuple(shape) != self.shape:
            found = " x ".join(f"{n:,}" for n in shape)
            raise UserError(
                f"{self.what} is {found}, but obs and var name {self.shape[0]:,} cells and {self.shape[1]:,} genes; the "
                "file is damaged, or its matrix was replaced without its tables: write it anew"
            )
        if dtype.kind not in "biuf":
            raise UserError(f"{self.what} holds text or objects ({dtype}), not numbers; set data.layer to the counts")

    def _pointers(self, layout: str, indptr: Any, indices: Any, data: Any) -> None:
        """Do the row (CSC: column) pointers rise from 0 to the number of stored values?"""
        pointers = np.asarray(indptr[:], dtype=np.int64)
        lines = self.shape[0 if layout == "csr" else 1]
        sound = len(pointers) == lines + 1 and pointers[0] == 0 and (np.diff(pointers) >= 0).all()
        if not (sound and (pointers[-1],) == tuple(indices.shape) == tuple(data.shape)):
            raise UserError(f"{self.what}: its sparse format is broken (indptr does not fit the values); write it anew")

    def _indices(self, indices: np.ndarray, most: int) -> None:
        """Is every index a place in the matrix?"""
        if len(indices) and (indices.min() < 0 or indices.max() >= most):
            found = f"indices {indices.min()} to {indices.max()} of {most}"
            raise UserError(f"{self.what}: its sparse format is broken ({found}); write it anew")

    def __getitem__(self, rows: slice) -> sp.csr_matrix:
        with readable(self.what):
            part = self.element[rows]
            if sp.issparse(part):
                self._indices(part.indices, self.shape[1])
            elif part.dtype == np.float16:  # which scipy has no sparse matrices of
                part = part.astype(np.float32)
            return sp.csr_matrix(part)


@dataclass
class RawCells:
    """Cells as their file has them. `matrices` maps `X`, each layer and `raw` to a matrix (N, G) and its var (G rows)."""

    obs: pd.DataFrame
    matrices: dict[str, tuple[Any, pd.DataFrame]]
    var: pd.DataFrame
    uns: dict[str, Any] = field(default_factory=dict)
    two_raws: bool = False  # a layer and raw.X of one name

    @classmethod
    def of(cls, data: AnnData) -> "RawCells":
        """The same for cells in memory."""
        matrices = {name: (matrix, data.var) for name, matrix in data.layers.items()}
        if data.X is not None:
            matrices[X] = (data.X, data.var)
        if data.raw is not None:
            matrices[RAW] = (data.raw.X, data.raw.var)
        return cls(data.obs, matrices, data.var, dict(data.uns), data.raw is not None and RAW in data.layers)

    def matrix(self, layers: list[str], where: str) -> tuple[str, Rows, pd.DataFrame]:
        """The first of `layers` that is there, with its name and var; raises UserError listing what is there."""
        for name in layers:
            if name == RAW and self.two_raws:
                raise UserError(f"{where}: there is a layer called 'raw' beside raw.X; rename it in the file")
            if name in self.matrices:
                element, var = self.matrices[name]
                return name, Rows(element, (len(self.obs), len(var)), f"{where}: {name}"), var
        there = ", ".join(self.matrices) or "none"
        raise UserError(f"{where}: no layer '{layers[0]}'; layers present: {there}; set data.layer (null means X)")

    def chunks(self, matrix: Rows, keep: np.ndarray, doing: str) -> Iterator[tuple[np.ndarray, sp.csr_matrix]]:
        """Positions and rows of the cells to keep, (n,) and CSR (n, G), a chunk of rows at a time.

        A line of progress says what it is `doing`.
        """
        step = max(256, ENTRIES_AT_A_TIME // max(matrix.shape[1], 1))
        starts = range(0, len(keep), step)
        for start in each(starts, doing, "cells", step, len(keep)):
            rows = np.flatnonzero(keep[start : start + step])
            if len(rows):
                part = matrix[start : start + step]
                yield start + rows, part if len(rows) == part.shape[0] else part[rows]


def _opened(file: Any) -> RawCells:
    """Cells of an open AnnData file, HDF5 or zarr, whose matrices stay where they are."""
    obs, var = anndata.io.read_elem(file["obs"]), anndata.io.read_elem(file["var"])
    layers = file.get("layers", {})
    matrices = {name: (layers[name], var) for name in layers}
    if "X" in file and file["X"].attrs.get("encoding-type") != "null":
        matrices[X] = (file["X"], var)
    if hasattr(file.get("raw"), "keys"):  # a zarr store without raw has a null there
        matrices[RAW] = (file["raw/X"], anndata.io.read_elem(file["raw/var"]))
    return RawCells(obs, matrices, var, two_raws=RAW in layers and matrices[RAW][1] is not var)


@contextmanager
def open_h5ad(path: Path) -> Iterator[RawCells]:
    """An `.h5ad` whose matrices stay on disk while it is open; UserError where it is not a whole one."""
    import h5py

    check_hdf5(path, {"obs", "var"})
    with warnings.catch_warnings(), h5py.File(path, "r") as file:
        warnings.simplefilter("ignore")
        with readable(str(path)):
            old = file.attrs.get("encoding-type") != "anndata"  # written before anndata 0.8: read whole
            cells = RawCells.of(anndata.read_h5ad(path)) if old else _opened(file)
        yield cells


@contextmanager
def in_memory(make: Callable[[], AnnData]) -> Iterator[RawCells]:
    """Cells that are made, not read."""
    yield RawCells.of(make())


class LoomRows:
    """The genes x cells matrix of a loom file, read as rows of cells."""

    def __init__(self, dataset: Any):
        self.dataset, self.shape, self.dtype = dataset, dataset.shape[::-1], dataset.dtype

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self.dataset[:, rows].T


@contextmanager
def open_loom(path: Path) -> Iterator[RawCells]:
    """A loom file (loompy 2 and 3) whose matrices stay on disk while it is open."""
    import h5py

    def table(group: Any, index: str) -> pd.DataFrame:
        columns = {k: v.asstr()[()] if v.dtype.kind in "SO" else v[()] for k, v in group.items() if v.ndim == 1}
        frame = pd.DataFrame(columns)
        return frame.set_index(index) if index in frame else frame

    check_hdf5(path, {"matrix", "row_attrs", "col_attrs"})
    with h5py.File(path, "r") as file:
        with readable(str(path)):
            obs, var = table(file["col_attrs"], "CellID"), table(file["row_attrs"], "Gene")
            layers = {X: file["matrix"], **file.get("layers", {})}
            matrices = {name: (LoomRows(matrix), var) for name, matrix in layers.items()}
        yield RawCells(obs, matrices, var)


@contextmanager
def open_zarr(path: Path) -> Iterator[RawCells]:
    """An AnnData zarr store (a folder) whose matrices stay on disk; UserError where it is not a whole one."""
    import zarr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with readable(str(path), "damaged or not a zarr store"):
            file = zarr.open_group(str(path), mode="r")
            if file.attrs.get("encoding-type") != "anndata":
                raise UserError(f"{path}: a zarr store, but not of AnnData (write one with AnnData.write_zarr)")
            cells = _opened(file)
        yield cells


READERS = {".h5ad": open_h5ad, ".loom": open_loom, ".zarr": open_zarr}


def open_cells(path: Path) -> AbstractContextManager[RawCells]:
    """The reader that the file's name asks for; UserError for another kind of file, or none."""
    if not path.exists():
        raise UserError(f"{path}: no such file; give data.path=<an existing file>")
    if path.suffix not in READERS:
        if path.is_dir():
            files = sorted(file.name for file in path.iterdir() if file.suffix in READERS)
            there = f"; in it: {', '.join(files[:5])}" if files else ""
            raise UserError(f"{path}: a folder; data.path names one file{there}")
        raise UserError(f"{path}: cannot read a '{path.suffix}' file; give one of {', '.join(READERS)}")
    return READERS[path.suffix](path)


def rejoined(obs: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Columns of prepared cells, and behind them those of their file at `path` that were not carried along."""
    with open_cells(path) as raw:
        whole = raw.obs.set_axis(make_index_unique(pd.Index(raw.obs.index.astype(str))), axis=0)
    more = whole.loc[:, ~whole.columns.isin(obs.columns) & ~whole.columns.duplicated()]
    return obs.rename_axis(None).join(more)  # the name of the index may be that of a column
