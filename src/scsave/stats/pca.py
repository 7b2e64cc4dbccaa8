"""Principal components of log1p expression: fitted on one sample of cells, applied to others."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from scsave.errors import UserError
from scsave.stats.moments import Matrix


@dataclass(frozen=True)
class Projection:
    """`(x - mean) @ components`, fitted on one sample of cells."""

    mean: np.ndarray  # (G,)
    components: np.ndarray  # (G, D)

    def __call__(self, x: Matrix, centred: bool = True) -> np.ndarray:
        """Expression (N, G) -> (N, D) float64. `centred=False` is what CFGen's evaluation did to generated cells."""
        projected = np.asarray(x @ self.components, dtype=np.float64)
        return projected - self.mean @ self.components if centred else projected


def fit_pca(x: Matrix, n_components: int, seed: int) -> Projection:
    """Exact PCA of `x` (N, G), the signs fixed; at most min(N, G) - 1 components.

    Few components of sparse cells are found by ARPACK, started from `seed`, with the mean subtracted inside the products,
    so that cells stay sparse; many by the dense decomposition. UserError with one cell or one gene.
    """
    from sklearn.decomposition import PCA

    kept = min(n_components, min(x.shape) - 1)
    if kept < 1:
        raise UserError(f"a PCA needs at least 2 cells and 2 genes, found {x.shape[0]} and {x.shape[1]}")
    x, dense = sp.csr_matrix(x, dtype=np.float64), kept * 3 > min(x.shape)  # ARPACK gains nothing on nearly all of them
    pca = PCA(kept, svd_solver="full" if dense else "arpack", random_state=seed).fit(x.toarray() if dense else x)
    return Projection(pca.mean_, pca.components_.T)


def softened(pca: Projection, x: Matrix) -> Projection:
    """`pca`, each component divided by the root of its sd among the cells `x` (N, G): half of the way to sphered ones.

    Where few components carry most of the variance, distances see those alone; sphered, they see noise. Its use for
    corrected expression was measured: docs/correction.md.
    """
    spread = pca(x).std(axis=0)
    return Projection(pca.mean, pca.components / np.sqrt(np.where(spread > 0, spread, 1.0)))


def sphered_half(x: np.ndarray) -> np.ndarray:
    """An embedding (N, D) as its principal components, each divided by the root of its sd, as `softened` does."""
    from sklearn.decomposition import PCA

    found = PCA(svd_solver="full").fit_transform(x)
    spread = found.std(axis=0)
    return found / np.sqrt(np.where(spread > 0, spread, 1.0))
