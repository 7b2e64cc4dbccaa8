"""Prepared cells for tests: real-looking counts of two types and two states over a few genes."""

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scsave import keys


def prepared(counts: np.ndarray, obs: dict | pd.DataFrame, genes: list[str] | None = None) -> AnnData:
    """Prepared cells from raw counts (N, G)."""
    counts = sp.csr_matrix(np.asarray(counts, dtype=np.float32))
    obs = pd.DataFrame(obs).reset_index(drop=True)
    obs.index = [f"cell{i}" for i in range(len(obs))]
    library = np.asarray(counts.sum(1)).ravel()
    obs[keys.LIBRARY] = library
    x = sp.diags_array(1e4 / np.maximum(library, 1)).astype(np.float32) @ counts
    x = sp.csr_matrix(x)
    x.data = np.log1p(x.data)
    var = pd.DataFrame(index=genes or [f"gene{i}" for i in range(counts.shape[1])])
    return AnnData(x, obs=obs, var=var, layers={keys.COUNTS: counts})


def population(
    n: int, genes: int = 40, seed: int = 0, types=("A", "B"), states=("x", "y"), effect: float = 1.0
) -> AnnData:
    """`n` cells, types told by one set of genes and states by another; the gene rates are the same for every seed."""
    rate = np.random.default_rng(99).gamma(1.0, 2.0, size=genes)
    draw = np.random.default_rng(seed)
    kind, state = draw.integers(len(types), size=n), draw.integers(len(states), size=n)
    log_rate = np.log(rate)[None].repeat(n, axis=0)
    block = genes // 5
    gene = np.arange(genes)
    log_rate += 1.5 * (gene // block == kind[:, None])
    log_rate += effect * (gene // block == 3 + state[:, None] % 2)
    library = np.exp(draw.normal(0, 0.3, size=(n, 1)))
    counts = draw.poisson(np.exp(log_rate) * library)
    return prepared(counts, {"type": np.array(types)[kind], "state": np.array(states)[state]})
