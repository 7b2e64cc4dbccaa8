"""Rows of a sparse matrix as dense minibatches: the only place where counts become dense."""

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.utils.data import Dataset


class CellDataset(Dataset):
    """Cells of CSR counts (N, G) and their library sizes (N,), over all rows or the positions `rows`.

    `__getitems__` gives a whole batch at once, so a DataLoader over it takes `collate_fn=identity`-like pass-through
    (`CellDataset.collate`) and never sees a single cell.
    """

    def __init__(self, counts: sp.csr_matrix, library: np.ndarray, rows: np.ndarray | None = None):
        self.counts = sp.csr_matrix(counts, copy=False)
        self.library = np.asarray(library, dtype=np.float32)
        self.rows = np.arange(counts.shape[0]) if rows is None else np.asarray(rows, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.batch(np.array([index]))

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        return self.batch(np.asarray(indices))

    def batch(self, indices: np.ndarray) -> dict[str, Tensor]:
        """`counts` (B, G) float32 and `library` (B,) float32 of the cells at `indices`, in that order."""
        rows = self.rows[indices]
        return {
            "counts": torch.from_numpy(dense_rows(self.counts, rows)),  # (B, G)
            "library": torch.from_numpy(self.library[rows]),  # (B,)
        }

    @staticmethod
    def collate(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """What `__getitems__` gave is a batch already."""
        return batch


def dense_rows(matrix: sp.csr_matrix, rows: np.ndarray) -> np.ndarray:
    """Rows of a CSR matrix as a dense float32 array, (B, G), without a loop over cells."""
    return matrix[rows].toarray().astype(np.float32, copy=False)
