"""Sparse matrices that need not fit in memory: their arrays lie in files, of which the pages in use are in memory.

The files have no name, so that the system takes them back with the last array on them, also of a process that was killed.
"""

import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from scsave.errors import UserError

LARGE = 2**28  # bytes of matrices from which on they lie on disk
PIECE = 2**22  # values that are converted at a time
MOST_INT32 = np.iinfo(np.int32).max


def stacked(parts: Iterable[tuple[sp.csr_matrix, ...]], folder: Path | None) -> tuple[sp.csr_matrix, ...]:
    """Rows (n, G) that come in parts, one below the other: in memory, or from `LARGE` on, read only, in files in `folder`.

    The matrices of a part share their index arrays (counts and log1p), and so do those returned. None: always in memory.
    UserError where the folder has no room.
    """
    spools, held, lengths, width = [], [], [np.zeros(1, dtype=np.int64)], 0
    for part in parts:
        lengths.append(np.diff(part[0].indptr).astype(np.int64))
        width = part[0].shape[1]
        held.append([part[0].indices.astype(np.int32, copy=False), *(one.data for one in part)])
        if folder is not None and (spools or sum(array.nbytes for one in held for array in one) > LARGE):
            spools = spools or [_Spool(folder, array.dtype) for array in held[0]]
            for spool, arrays in zip(spools, zip(*held, strict=True), strict=True):
                spool.write(arrays)
            held = []
    found = [spool.array() for spool in spools] or [np.concatenate(arrays) for arrays in zip(*held, strict=True)]
    indptr = np.cumsum(np.concatenate(lengths))
    if indptr[-1] <= MOST_INT32:
        indptr = indptr.astype(np.int32)
    elif spools:  # both index arrays of one type: scipy would copy the narrower one
        wide = _Spool(folder, indptr.dtype)
        wide.write(found[0][start : start + PIECE].astype(np.int64) for start in range(0, indptr[-1], PIECE))
        found[0] = wide.array()
    shape = (len(indptr) - 1, width)
    return tuple(sp.csr_matrix((data, found[0], indptr), shape=shape, copy=False) for data in found[1:])


class _Spool:
    """An array that is written piece by piece to a file without a name."""

    def __init__(self, folder: Path, dtype: np.dtype):
        self.dtype = dtype
        self.folder = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
        with self._room():
            number, self.name = tempfile.mkstemp(dir=self.folder, prefix=".cells.")
            os.unlink(self.name)
        self.file = os.fdopen(number, "w+b", buffering=0)

    def write(self, arrays: Iterable[np.ndarray]) -> None:
        with self._room():
            for array in arrays:
                array.tofile(self.file)

    def array(self) -> np.ndarray:
        found = np.memmap(self.file, self.dtype, mode="r")  # has a descriptor of its own
        found.filename = self.name
        self.file.close()
        return found

    @contextmanager
    def _room(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            why = f"cannot be written to ({error}); it keeps large cells while a run lasts"
            raise UserError(f"{self.folder}: {why}: set paths.cache=<a folder with room>") from error


def _mapped(array: np.ndarray) -> np.memmap | None:
    """The mapped file that an array is a view of."""
    while isinstance(array, np.ndarray) and not isinstance(array, np.memmap):
        array = array.base
    return array if isinstance(array, np.memmap) and array.filename else None


def folder_of(matrix: sp.csr_matrix) -> Path | None:
    """The folder of a mapped matrix; None for one in memory."""
    found = _mapped(getattr(matrix, "data", None))
    return None if found is None else Path(found.filename).parent


def release(matrix: sp.csr_matrix) -> None:
    """Let go of the pages of a mapped matrix that were read; they are read again when they are asked for."""
    for name in ("data", "indices") if folder_of(matrix) is not None else ():
        if (found := _mapped(getattr(matrix, name))) is not None:
            found._mmap.madvise(mmap.MADV_DONTNEED)
