"""Statistics of the training cells that a model starts from."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from anndata import AnnData
from torch import Tensor

from scsave import keys
from scsave.models.likelihoods import GeneMoments


def library_range(train: AnnData) -> list[float]:
    """Smallest and largest library size: generated ones stay between."""
    library = train.obs[keys.LIBRARY].to_numpy()
    return [float(library.min()), float(library.max())]


def gene_moments(train: AnnData, combination: np.ndarray) -> tuple[GeneMoments, Tensor]:
    """Gene statistics of training cells, and the scale: each gene's largest log1p value."""
    counts, x = train.layers[keys.COUNTS], train.X
    scale = np.maximum(column_max(x), 1e-6)
    total, square = column_sums(counts)
    member = sp.csr_matrix((np.ones(train.n_obs), (combination, np.arange(train.n_obs))))
    within = np.asarray((member @ counts).todense()) / np.asarray(member.sum(1))  # (combinations, G)
    between = (np.asarray(member.sum(1)) * within**2).sum(0) / train.n_obs  # (G,)
    variance = square / train.n_obs - between
    share = total / train.obs[keys.LIBRARY].sum()
    columns = (column_sums(x)[0] / train.n_obs / scale, share, total / train.n_obs, variance)
    moments = GeneMoments(*(torch.from_numpy(column.astype(np.float32)) for column in columns))
    return moments, torch.from_numpy(scale.astype(np.float32))


# By rows: scipy's own sums, means and maxima make copies as large as the matrix, or larger.


def column_sums(matrix: sp.csr_matrix, rows: int = 8192) -> tuple[np.ndarray, np.ndarray]:
    """Sum and sum of squares of each column, (G,) each."""
    total, square = np.zeros(matrix.shape[1]), np.zeros(matrix.shape[1])
    for start in range(0, matrix.shape[0], rows):
        part = matrix[start : start + rows]
        values = part.data.astype(np.float64)
        total += np.bincount(part.indices, values, matrix.shape[1])
        square += np.bincount(part.indices, values**2, matrix.shape[1])
    return total, square


def column_max(matrix: sp.csr_matrix, rows: int = 1024) -> np.ndarray:
    """Largest value of each column of a matrix without negative ones, (G,)."""
    largest = np.zeros(matrix.shape[1], dtype=matrix.dtype)
    for start in range(0, matrix.shape[0], rows):
        np.maximum(largest, matrix[start : start + rows].toarray().max(axis=0), out=largest)
    return largest
