"""Predicted cells from a change of the mean: real control cells that lose or gain molecules until their mean is there.

A shift of every cell by one vector has the right mean, and cells that no sequencer would give: negative values, and small
values where there should be zeros. Here a gene that falls is thinned (each molecule kept with one probability, as in
shallower sequencing), and a gene that rises gets further molecules: Poisson, with a rate proportional to the cell's library
size and to a strength of response `s_i ~ Gamma(k, 1/k)` that the genes of a cell share. Rates are solved for, so that the
mean hits the target.

Whole molecules of a handful of cells can't meet a mean, so few control cells are repeated (`repeated`) before molecules are
drawn for them. A repeated cell is one observation: `to_pooled` counts it once, and the predicted cells say which control
cell each row is made from.
"""

from collections.abc import Callable

import anndata as ad
import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from scsave import keys
from scsave.baselines.predicted import target_obs
from scsave.data.preprocess import log1p_normalise
from scsave.stats.moments import mean_expression

STRENGTH_SHAPE = 5.0  # k: the strength of response varies between cells by a coefficient of variation of 0.45
UNMOVED = 1e-4  # changes below this, in log1p, are left alone
HALVINGS = 16  # of the interval that a rate is searched in
# The rate of a rising gene is searched between 0 and the rate of log1p mean `goal + HEADROOM + ...`. The mean of log1p lies
# below log1p of the mean (Jensen), by up to 0.7 where molecules are many and by several units where they are few: cells of
# shallow libraries show one molecule as a large log1p value, most cells none.
HEADROOM, SPARSE_HEADROOM, SPARSE_SCALE = 0.7, 2.5, 1.5


def repeated(cells: AnnData, times: int) -> AnnData:
    """Every cell `times` over, under row names of their own; `obs["control_cell"]` names the cell that a row repeats."""
    if times == 1:
        return cells
    rows = np.tile(np.arange(cells.n_obs), times)
    obs = cells.obs.iloc[rows].copy()
    if keys.CONTROL_CELL not in obs:
        obs[keys.CONTROL_CELL] = obs.index.to_numpy()
    obs.index = [f"{name}-{row // cells.n_obs}" for row, name in enumerate(obs.index)]
    layers = {keys.COUNTS: cells.layers[keys.COUNTS][rows]}
    return AnnData(X=cells.X[rows], obs=obs, var=cells.var.copy(), layers=layers, uns=dict(cells.uns))


def observed(cells: AnnData) -> int:
    """How many different control cells there are: repeats of one are no further evidence."""
    return int(cells.obs[keys.CONTROL_CELL].nunique()) if keys.CONTROL_CELL in cells.obs else cells.n_obs


def to_pooled(control: AnnData, mean: np.ndarray, variance: np.ndarray, n: int) -> np.ndarray:
    """From the mean of `control`'s cells, (G,) in log1p space, to the one that they share with training's `n` control cells.

    `mean` and `variance`, (G,) each, are of training's. The mean of a few hundred cells has a sampling error of the size of
    many effects. As far as the two means differ by no more than that error they are pooled; where they differ by more
    (James & Stein's factor: another batch, another cell type), less so.
    """
    difference, here = mean - mean_expression(control), observed(control)
    expected = float((variance * (1 / here + 1 / n)).sum())
    share = min(1.0, expected / max(float((difference**2).sum()), 1e-12))
    return share * difference * n / (n + here)


def carried_cells(control: AnnData, change: np.ndarray, key: str, target: str, seed: int, made_by: str) -> AnnData:
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
    obs = target_obs(control, key, target)
    uns = {keys.UNS: {"made_by": made_by, "what": f"control cells carried to {key}={target}"}}
    x = sp.csr_matrix(log1p_normalise(carried, library), dtype=np.float32)
    return AnnData(X=x, obs=obs, var=control.var.copy(), layers={keys.COUNTS: carried}, uns=uns)


def carried_groups(
    control: AnnData, groups: list[np.ndarray], change: Callable[[AnnData], np.ndarray], key: str, target: str, seed: int,
    made_by: str,
) -> AnnData:  # fmt: skip
    """`carried_cells` group by group (positions in `control`), each by its own `change` (G,); in the order of `control`.

    `uns` says of how many control cells the rows are made, and whether rows repeat.
    """
    parts = []
    for number, here in enumerate(groups):
        cells = control[here].copy()
        parts.append(carried_cells(cells, change(cells), key, target, seed + number, made_by))
    together = ad.concat(parts, merge="same", uns_merge="first") if len(parts) > 1 else parts[0]
    made = together[np.argsort(np.concatenate(groups), kind="stable")].copy()
    cells = observed(made)
    made.uns[keys.UNS] |= {"control_cells": cells, "rows_repeat_control_cells": cells < made.n_obs}
    return made


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

    highest = np.expm1(goal + HEADROOM + SPARSE_HEADROOM * np.exp(-goal / SPARSE_SCALE)) / keys.TARGET_SUM
    rate = bisect(mean_at, goal, np.zeros(genes), highest)
    return sp.csc_matrix(poisson_at(u, exposure * rate).astype(counts.dtype))


def bisect(mean_at, goal: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Where the rising functions `mean_at(x) -> (G,)` cross `goal`, from below, so that a goal of zero is met."""
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        above = mean_at(middle) > goal
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return low


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
    # few molecules, most of the matrix: add up the probabilities, dropping the entries that are done
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
