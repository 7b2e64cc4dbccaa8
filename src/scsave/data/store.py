"""Prepared cells on disk: written a chunk of rows at a time, once, under a lock, and read back whole."""

import glob
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import anndata
import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from filelock import FileLock

from scsave import keys
from scsave.errors import UserError
from scsave.files import replacing

_COUNTS = f"layers/{keys.COUNTS}"


class CountsWriter:
    """Appends CSR rows to `layers/counts` of an h5ad file; what is in memory is one chunk."""

    def __init__(self, path: Path):
        import h5py

        self.file = h5py.File(path, "w")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.file.close()

    def append(self, rows: sp.csr_matrix) -> None:
        """Adds rows (n, G); every call with the same G."""
        if _COUNTS in self.file:
            anndata.io.sparse_dataset(self.file[_COUNTS]).append(rows)
        else:
            rows.indptr = rows.indptr.astype(np.int64)  # there may be more counts to come than 32 bits can number
            options = {"compression": "lzf", "chunks": (1 << 18,)}
            anndata.io.write_elem(self.file, _COUNTS, rows, dataset_kwargs=options)

    def finish(self, data: AnnData) -> None:
        """Writes obs, var and uns of `data`, (N, G) without matrices, which completes the file."""
        self.file["layers"].attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
        self.file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        for name, element in (("obs", data.obs), ("var", data.var), ("uns", dict(data.uns))):
            anndata.io.write_elem(self.file, name, element)


def build_once(path: Path, build: Callable[[Path], None], timeout: float = 6 * 3600) -> Path:
    """`path`, made by `build(temporary)` where it is missing. Of two jobs one builds, the other waits for it.

    The temporary file lies beside `path` and is renamed when whole; one that a killed job left there is removed.
    UserError where the folder cannot be written to, or its disk is full.
    """
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)  # of the lock
        with FileLock(path.with_name(path.name + ".lock"), timeout=timeout):
            if not path.exists():
                for left in path.parent.glob(f".{glob.escape(path.stem)}.*{path.suffix}"):
                    left.unlink()
                with replacing(path) as beside:
                    build(beside)
    except OSError as error:
        raise UserError(
            f"{path.parent}: the prepared cells cannot be written ({error}); set paths.cache=<a folder with room>"
        ) from error
    return path


def read_prepared(path: Path) -> AnnData:
    """Cells written by `CountsWriter`, in memory, without X."""
    try:
        data = anndata.read_h5ad(path)
        counts = data.layers[keys.COUNTS]
        if counts.nnz < np.iinfo(np.int32).max:  # else scipy would widen the indices too, twice the memory
            counts.indptr = counts.indptr.astype(np.int32)
        return data
    except Exception as error:  # a damaged file may raise anything
        raise UserError(f"{path}: the cached cells cannot be read ({error}); delete this file and run again") from error
