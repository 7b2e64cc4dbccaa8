"""Statistics of genes, against numpy on dense arrays."""

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scsave import keys
from scsave.stats.moments import column_max, column_sums, gene_moments


def test_column_statistics_are_numpys_whatever_the_chunk():
    matrix = sp.random(37, 11, density=0.3, format="csr", random_state=0, dtype=np.float32)
    dense = matrix.toarray().astype(np.float64)
    for rows in (1, 5, 100):
        total, square = column_sums(matrix, rows)
        np.testing.assert_allclose(total, dense.sum(0))
        np.testing.assert_allclose(square, (dense**2).sum(0))
        np.testing.assert_array_equal(column_max(matrix, rows), matrix.toarray().max(0))


def test_moments_are_of_the_training_cells_and_variance_is_within_combinations():
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1, 2], [20, 30, 50])
    counts = rng.poisson(1 + 4.0 * group[:, None], (100, 6)).astype(np.float32)
    library = counts.sum(1) + 10
    x = np.log1p(counts / library[:, None] * 1e4).astype(np.float32)
    train = AnnData(
        sp.csr_matrix(x), obs=pd.DataFrame({keys.LIBRARY: library}), layers={keys.COUNTS: sp.csr_matrix(counts)}
    )
    moments = gene_moments(train, group)
    within = sum(((counts[group == g] - counts[group == g].mean(0)) ** 2).sum(0) for g in range(3)) / 100
    np.testing.assert_allclose(moments.scale, x.max(0), rtol=1e-6)
    parts = (moments.scaled_mean, moments.share, moments.count_mean, moments.count_variance)
    mean, share, count_mean, variance = parts
    np.testing.assert_allclose(mean, x.mean(0) / x.max(0), rtol=1e-5)
    np.testing.assert_allclose(share, counts.sum(0) / library.sum(), rtol=1e-5)
    np.testing.assert_allclose(count_mean, counts.mean(0), rtol=1e-5)
    np.testing.assert_allclose(variance, within, rtol=1e-4)
