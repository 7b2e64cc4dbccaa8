"""Sparse matrices that need not fit in memory: their arrays lie in files, of which the pages in use are in memory.

The files have no name, so that the system takes them back with the last array on them, also of a process that was killed.
"""

import mmap
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from scsave.errors import UserError

LARGE = 2**28  # bytes of matrices from which on they lie on disk
PIECE = 2**22  # values that are converted at a time
MOST_INT32 = np.iinfo(np.int32).max


def stacked(parts: Iterable[tuple[sp.csr_matrix, ...]], folder: Path | None) -> tuple[sp.csr_matrix, ...]:
    """Rows (n, G) that come in parts, one below the other, in float32: in memory, or from `LARGE` on in files in `folder`.

    The matrices of a part share their index arrays (counts and log1p), and so do those returned. They are read only where
    they are mapped. None: always in memory. UserError where the folder has no room.
    """
    arrays, held, lengths, width = [], [], [np.zeros(1, dtype=np.int64)], 0
    try:
        for part in parts:
            lengths.append(np.diff(part[0].indptr).astype(np.int64))
            width = part[0].shape[1]
            held.append([part[0].indices.astype(np.int32, copy=False), *(one.data for one in part)])
            if folder is not None and (arrays or sum(a.nbytes for piece in held for a in piece) > LARGE):
                arrays = arrays or [_Spool(folder, array.dtype) for array in held[0]]
                for spool, pieces in zip(arrays, zip(*held, strict=True), strict=True):
                    spool.write(pieces)
                held = []
        found, indptr = [spool.array() for spool in arrays], np.cumsum(np.concatenate(lengths))
        # both index arrays of one type, or scipy would make a copy of one
        if indptr[-1] <= MOST_INT32:
            indptr = indptr.astype(np.int32)
        elif found:
            wide = _Spool(folder, indptr.dtype)
            wide.write(found[0][start : start + PIECE].astype(np.int64) for start in range(0, indptr[-1], PIECE))
            found[0] = wide.array()
    except OSError as error:
        hint = (
            "set paths.cache=<a folder with room>: cells that are too large for memory are kept there while a run lasts"
        )
        raise UserError(f"{folder}: cannot be written to ({error}); {hint}") from error
    indices, *data = found or [np.concatenate(pieces) for pieces in zip(*held, strict=True)]
    shape = (len(indptr) - 1, width)
    return tuple(sp.csr_matrix((one, indices, indptr), shape=shape, copy=False) for one in data)


class _Spool:
    """An array that is written piece by piece to a file without a name."""

    def __init__(self, folder: Path, dtype: np.dtype):
        there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
        number, name = tempfile.mkstemp(dir=there, prefix=".cells.")
        os.unlink(name)
        self.file, self.dtype, self.name = os.fdopen(number, "w+b"), dtype, name

    def write(self, pieces: Iterable[np.ndarray]) -> None:
        for piece in pieces:
            self.file.write(memoryview(np.ascontiguousarray(piece)))

    def array(self) -> np.ndarray:
        self.file.flush()
        found = np.memmap(self.file, self.dtype, mode="r")  # has a descriptor of its own
        found.filename = self.name
        self.file.close()
        return found


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
