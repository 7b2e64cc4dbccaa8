"""From a predicted change of the mean to cells: real control cells that lose or gain molecules until their mean is there.

A shift of every cell by one vector has the right mean and cells that no sequencer would give: negative values, zeros that
are not zeros. Here a gene that falls is thinned (each molecule kept with one probability, as in shallower sequencing), and
a gene that rises gets further molecules: Poisson, with a rate that is proportional to the cell's library and to a strength
of response `s_i ~ Gamma(k, 1/k)` that the genes of a cell share. Rates are solved so that the mean hits the target.
"""

from __future__ import annotations

from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scsave import keys
from scsave.data.preprocess import log1p_normalise

STRENGTH_SHAPE = 5.0  # k: the coefficient of variation of a response's strength between cells is 0.45
UNMOVED = 1e-4  # changes below this, in log1p, are left alone
HALVINGS = 16


def carried_cells(
    control: AnnData, change: np.ndarray, key: str, target: str, seed: int, made_by: str = "scsave"
) -> AnnData:
    """The cells of `control` (prepared) moved so that their mean log1p expression changes by `change` (G,).

    Integer counts in `layers["counts"]`, log1p of them by the control cell's own library size in `X`; `obs[key]` is
    `target`. The mean is cut off at zero expression. Draws are stratified over the cells, gene by gene, so that the mean is
    met as closely as whole molecules allow.
    """
    counts = sp.csc_matrix(control.layers[keys.COUNTS])
    library = control.obs[keys.LIBRARY].to_numpy(np.float64)
    mean = np.asarray(control.X.mean(axis=0)).ravel().astype(np.float64)
    goal = np.maximum(mean + change, 0.0)
    moved = goal - mean
    rng = np.random.default_rng(seed)
    falls, rises = np.flatnonzero(moved < -UNMOVED), np.flatnonzero(moved > UNMOVED)
    parts, order = [counts[:, np.abs(moved) <= UNMOVED]], [np.flatnonzero(np.abs(moved) <= UNMOVED)]
    if len(falls):
        parts.append(thinned(counts[:, falls], goal[falls], library, rng))
        order.append(falls)
    if len(rises):
        parts.append(counts[:, rises] + added(counts[:, rises], goal[rises], library, rng))
        order.append(rises)
    back = np.argsort(np.concatenate(order))
    carried = sp.csr_matrix(sp.hstack(parts, format="csc")[:, back], dtype=np.float32)
    carried.eliminate_zeros()
    obs = control.obs.copy()
    obs[key] = pd.Categorical([target] * len(obs))
    uns = {keys.UNS: {"made_by": made_by, "what": f"control cells carried to {key}={target}"}}
    x = sp.csr_matrix(log1p_normalise(carried, library), dtype=np.float32)
    return AnnData(X=x, obs=obs, var=control.var.copy(), layers={keys.COUNTS: carried}, uns=uns)


def carried_groups(
    control: AnnData,
    groups: list[np.ndarray],
    change: Callable[[AnnData], np.ndarray],
    key: str,
    target: str,
    seed: int,
    made_by: str = "scsave",
) -> AnnData:
    """`carried_cells` group by group (positions in `control`), each by its own `change` (G,); in the order of `control`."""
    parts = []
    for number, here in enumerate(groups):
        cells = control[here].copy()
        parts.append(carried_cells(cells, change(cells), key, target, seed + number, made_by))
    together = ad.concat(parts, merge="same", uns_merge="first") if len(parts) > 1 else parts[0]
    return together[np.argsort(np.concatenate(groups), kind="stable")].copy()


def thinned(counts: sp.csc_matrix, goal: np.ndarray, library: np.ndarray, rng: np.random.Generator) -> sp.csc_matrix:
    """Counts (N, G) with every molecule of gene g kept with probability `p_g`, so that mean log1p is `goal` (G,)."""
    n, genes = counts.shape
    gene = np.repeat(np.arange(genes), np.diff(counts.indptr))  # of each entry
    k, scale = counts.data.astype(np.float64), keys.TARGET_SUM / library[counts.indices]
    u = stratified(gene, rng)

    def mean_at(p: np.ndarray) -> np.ndarray:
        return np.bincount(gene, np.log1p(binomial_at(u, k, p[gene]) * scale), minlength=genes) / n

    p = bisect(mean_at, goal, np.zeros(genes), np.ones(genes))
    out = counts.copy()
    out.data = binomial_at(u, k, p[gene]).astype(counts.dtype)
    return out


def added(counts: sp.csc_matrix, goal: np.ndarray, library: np.ndarray, rng: np.random.Generator) -> sp.csc_matrix:
    """Molecules to add to counts (N, G), `Poisson(library_i s_i r_g)`, so that the mean log1p is `goal` (G,)."""
    n, genes = counts.shape
    have = counts.toarray().astype(np.float64)  # (N, G)
    exposure = (library * rng.gamma(STRENGTH_SHAPE, 1 / STRENGTH_SHAPE, n))[:, None]
    u = (rng.permuted(np.tile(np.arange(n)[:, None], (1, genes)), axis=0) + rng.random((n, genes))) / n
    scale = (keys.TARGET_SUM / library)[:, None]

    def mean_at(rate: np.ndarray) -> np.ndarray:
        return np.log1p((have + poisson_at(u, exposure * rate)) * scale).mean(axis=0)

    # the mean of logs is below the log of the mean, most so where molecules are few
    enough = np.expm1(goal + 0.7 + 2.5 * np.exp(-goal / 1.5)) / keys.TARGET_SUM
    rate = bisect(mean_at, goal, np.zeros(genes), enough)
    return sp.csc_matrix(poisson_at(u, exposure * rate).astype(counts.dtype))


def bisect(mean_at, goal: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Where the rising functions `mean_at(x) -> (G,)` cross `goal`."""
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        above = mean_at(middle) > goal
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return low  # so that a goal of zero is met


def stratified(group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Uniform numbers, (N,), spread evenly within each group of entries (sorted codes), in random order."""
    sizes = np.bincount(group)
    order = np.lexsort((rng.random(len(group)), group))
    place = np.empty(len(group))
    place[order] = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return (place + rng.random(len(group))) / sizes[group]


def poisson_at(u: np.ndarray, rate: np.ndarray) -> np.ndarray:
    """The Poisson quantile of `u`, elementwise: rises with the rate, so that a rate can be solved for."""
    rate = np.broadcast_to(rate, u.shape)
    out = np.zeros(u.shape)
    many = rate > 30
    if many.any():
        from scipy.special import pdtrik

        out[many] = np.ceil(np.maximum(pdtrik(u[many], rate[many]), 0))
    # few molecules, most of the matrix: add up the masses, dropping what is settled
    open_ = np.nonzero((u > np.exp(-rate)) & ~many)
    rate, u = rate[open_], u[open_]
    mass = below = np.exp(-rate)
    drawn, alive, number = np.zeros(len(u)), np.arange(len(u)), 0
    while len(alive):
        number += 1
        drawn[alive] = number
        mass = mass * rate / number
        below = below + mass
        keep = (u > below) & (mass > 1e-16)
        alive, below, mass, rate, u = alive[keep], below[keep], mass[keep], rate[keep], u[keep]
    out[open_] = drawn
    return out


def binomial_at(u: np.ndarray, k: np.ndarray, p: np.ndarray) -> np.ndarray:
    """The quantile of `u` of Binomial(k, p), elementwise, (N,): rises with p."""
    from scipy.stats import binom

    small = k == 1  # most entries of a count matrix
    out = np.where(u > 1 - p, 1.0, 0.0)
    if not small.all():
        out[~small] = np.clip(binom.ppf(u[~small], k[~small], p[~small]), 0, k[~small])
    return out
