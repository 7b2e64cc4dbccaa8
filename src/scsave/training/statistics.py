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
    scale = np.maximum(np.asarray(x.max(axis=0).todense()).ravel(), 1e-6)
    total, mean = np.asarray(counts.sum(0)).ravel(), np.asarray(counts.mean(0)).ravel()
    member = sp.csr_matrix((np.ones(train.n_obs), (combination, np.arange(train.n_obs))))
    within = np.asarray((member @ counts).todense()) / np.asarray(member.sum(1))  # (combinations, G)
    between = (np.asarray(member.sum(1)) * within**2).sum(0) / train.n_obs  # (G,)
    variance = squares(counts) / train.n_obs - between
    share = total / train.obs[keys.LIBRARY].sum()
    columns = (np.asarray(x.mean(0)).ravel() / scale, share, mean, variance)
    moments = GeneMoments(*(torch.from_numpy(column.astype(np.float32)) for column in columns))
    return moments, torch.from_numpy(scale.astype(np.float32))


def squares(counts: sp.csr_matrix, rows: int = 8192) -> np.ndarray:
    """Sum of squared counts of each gene, (G,), without a second matrix as large as the first."""
    total = np.zeros(counts.shape[1])
    for start in range(0, counts.shape[0], rows):
        part = counts[start : start + rows]
        total += np.bincount(part.indices, part.data.astype(np.float64) ** 2, counts.shape[1])
    return total
