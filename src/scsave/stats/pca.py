"""In which space are cells compared? Principal components of log1p expression, and cells brought to one gene order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from scsave import keys
from scsave.errors import UserError
from scsave.metrics.differential import Matrix


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
    """Exact PCA of `x` (N, G), the signs fixed; at most min(N, G) - 1 components. ARPACK starts from `seed`.

    Sparse cells stay sparse: the mean is subtracted inside the products. UserError with one cell or one gene.
    """
    from scipy.sparse.linalg import LinearOperator, svds

    x = sp.csr_matrix(x, dtype=np.float64)
    mean, kept = np.asarray(x.mean(axis=0)).ravel(), min(n_components, min(x.shape) - 1)
    if kept < 1:
        raise UserError(f"a PCA needs at least 2 cells and 2 genes, found {x.shape[0]} and {x.shape[1]}")
    if kept * 3 > min(x.shape):  # small, or nearly all components: ARPACK gains nothing
        components = np.linalg.svd(x.toarray() - mean, full_matrices=False)[2][:kept]
    else:
        transposed = x.T.tocsr()
        centred = LinearOperator(
            x.shape,
            matvec=lambda v: x @ v.ravel() - mean @ v.ravel(),
            rmatvec=lambda u: transposed @ u.ravel() - mean * u.sum(),
            dtype=np.float64,
        )
        start = np.random.default_rng(seed).uniform(-1, 1, size=min(x.shape))
        _, values, components = svds(centred, k=kept, v0=start)
        components = components[np.argsort(-values)]
    largest = np.abs(components).argmax(axis=1)
    signs = np.sign(components[np.arange(kept), largest])
    return Projection(mean, (components * signs[:, None]).T)


def softened(pca: Projection, x: Matrix) -> Projection:
    """`pca`, each component divided by the root of its sd among the cells `x` (N, G): half of the way to sphered ones.

    Where few components carry most of the variance, distances see those alone; sphered, they see noise. Its use for
    corrected expression was measured: docs/correction.md.
    """
    spread = pca(x).std(axis=0)
    return Projection(pca.mean, pca.components / np.sqrt(np.where(spread > 0, spread, 1.0)))


def expression(cells: AnnData, what: str, genes: list[str] | None = None) -> sp.csr_matrix:
    """log1p expression of `cells`, CSR (N, G), in the order of `genes` (their own if not given).

    Raises UserError if genes are missing or too many, or a value is NaN or infinite; `what` names the cells in it.
    """
    found = list(cells.var_names)
    x = sp.csr_matrix(cells.X) if cells.X is not None else None
    if x is None:
        raise UserError(f"{what}: X is empty, log1p expression is expected there")
    if genes is not None and found != list(genes):
        place = {gene: position for position, gene in enumerate(found)}
        missing, extra = [g for g in genes if g not in place], set(found) - set(genes)
        if missing or extra:
            raise UserError(
                f"{what}: genes differ from the real cells': {len(missing)} missing ({', '.join(missing[:3]) or '-'}), "
                f"{len(extra)} unknown ({', '.join(sorted(extra)[:3]) or '-'}); give the same {len(genes)} genes"
            )
        x = x[:, [place[gene] for gene in genes]]
    bad = ~np.isfinite(x.data)
    if bad.any():
        rows = np.unique(np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))[bad])
        raise UserError(f"{what}: X has {int(bad.sum())} values that are NaN or infinite, in {len(rows)} cells")
    return x


def library_size(cells: AnnData, what: str) -> np.ndarray:
    """`obs["library_size"]`, (N,) float64; UserError if it is missing, negative or NaN."""
    if keys.LIBRARY not in cells.obs:
        raise UserError(f"{what}: no column {keys.LIBRARY} in obs; columns: {', '.join(map(str, cells.obs.columns))}")
    size = cells.obs[keys.LIBRARY].to_numpy(np.float64)
    if not (np.isfinite(size) & (size >= 0)).all():
        raise UserError(f"{what}: {keys.LIBRARY} has negative, NaN or infinite values")
    return size
