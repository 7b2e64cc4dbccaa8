"""Kernel of the process over sets of genes: how alike the effects of two sets are, by its terms.

With `v` the gene vectors in their principal components (unit total variance), for sets A and B

    k(A, B) = sum_{g in A, h in B} [c + a v_g.v_h + b exp(-|v_g - v_h|^2 / 2) + r 1(g = h)]
            + sum_{pairs p in A, q in B} [i (v_p1.v_q1 v_p2.v_q2 + v_p1.v_q2 v_p2.v_q1) + j 1(p = q)]

`c` is what all genes share (the perturbed mean), `a` and `b` what the vectors predict, `r` what is a gene's own, `i` and
`j` interactions predicted by the vectors and a pair's own. Without the second line the process is additive.

All products of two coordinates are too many for the pairs of a screen (a space of 20 has 210, Norman's has 131 pairs); a few
directions `l_r`, learned by the marginal likelihood, are not. With them the interaction of a pair has the kernel
`sum_r (l_r.v_p1)(l_r.v_p2)(l_r.v_q1)(l_r.v_q2)`, where the process integrates over the genes' responses.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Sets = list[tuple[str, ...]]
WEIGHTS = ("c", "a", "b", "r", "i", "j")
STEPS = 200  # of L-BFGS, from each start
START_SD = 0.5  # of the coordinates of random starts
BARRIER = 1e12  # loss of a kernel that is not positive definite, where a line search went too far


def parts(
    a: Sets, b: Sets, place: Callable[[list[str]], np.ndarray], axes: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """The six terms between two lists of sets, (|a|, |b|) each, before their weights; `place` gives vectors (n, q)."""
    genes = sorted({gene for one in (*a, *b) for gene in one})
    at = {gene: number for number, gene in enumerate(genes)}
    text = place(genes)  # (n, q)
    member_a, member_b = members(a, at), members(b, at)
    linear = text @ text.T
    square = np.maximum((text**2).sum(1)[:, None] + (text**2).sum(1)[None] - 2 * linear, 0)
    near = {"c": np.ones_like(linear), "a": linear, "b": np.exp(-square / 2), "r": np.eye(len(genes))}
    out = {name: member_a @ term @ member_b.T for name, term in near.items()}
    (owner_a, p), (owner_b, q) = pairs_of(a, at), pairs_of(b, at)

    def over_pairs(term: np.ndarray) -> np.ndarray:
        total = np.zeros((len(a), len(b)))
        np.add.at(total, (owner_a[:, None], owner_b[None]), term)
        return total

    out["j"] = over_pairs((p[:, None] == q[None]).all(axis=-1).astype(float))
    if axes is None:
        alike = linear[np.ix_(p[:, 0], q[:, 0])] * linear[np.ix_(p[:, 1], q[:, 1])]
        alike += linear[np.ix_(p[:, 0], q[:, 1])] * linear[np.ix_(p[:, 1], q[:, 0])]
        out["i"] = over_pairs(alike)
    else:
        out["i"] = products(owner_a, p, text, axes, len(a)) @ products(owner_b, q, text, axes, len(b)).T
    return out


def combined(terms: dict[str, np.ndarray], weights: dict[str, float]) -> np.ndarray:
    """The kernel, (|a|, |b|): its terms by their weights."""
    return sum(weights[name] * terms[name] for name in WEIGHTS)


def owned(a: Sets, b: Sets, variance: dict[str, float]) -> np.ndarray:
    """Covariance of two lists of sets by effects that are their genes' own, of these variances, (|a|, |b|)."""
    at = {gene: number for number, gene in enumerate(sorted({gene for one in (*a, *b) for gene in one}))}
    return (members(a, at) * [variance.get(gene, 0.0) for gene in at]) @ members(b, at).T


def members(sets: Sets, at: dict[str, int]) -> np.ndarray:
    """Which genes are in which set, (sets, genes) of 0 and 1."""
    out = np.zeros((len(sets), len(at)))
    for row, genes in enumerate(sets):
        out[row, [at[gene] for gene in genes]] = 1
    return out


def pairs_of(sets: Sets, at: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Set (m,) and genes (m, 2) of every unordered pair within a set."""
    found = [(row, at[g], at[h]) for row, one in enumerate(sets) for g, h in itertools.combinations(sorted(one), 2)]
    array = np.array(found, dtype=np.int64).reshape(-1, 3)
    return array[:, 0], array[:, 1:]


def products(owner: np.ndarray, pairs: np.ndarray, text: np.ndarray, axes: np.ndarray, n_sets: int) -> np.ndarray:
    """Products of the two genes' projections on the axes (q, R), summed over the pairs of a set: (n_sets, R)."""
    projected = text @ axes
    out = np.zeros((n_sets, axes.shape[1]))
    np.add.at(out, owner, projected[pairs[:, 0]] * projected[pairs[:, 1]])
    return out


@dataclass(frozen=True)
class PairAxes:
    """Directions (q, R) and what was learned with them: factors of the other terms, and weights of `j` and `noise`."""

    axes: np.ndarray
    factor: float
    j: float
    noise: float


def learn_axes(
    outer: np.ndarray, additive: np.ndarray, same: np.ndarray, error: np.ndarray, owner: np.ndarray, pairs: np.ndarray,
    text: np.ndarray, start: tuple[float, float], rank: int, penalty: float, starts: int,
) -> PairAxes:  # fmt: skip
    """Most likely axes, `rank` from each of `starts` random starts, with a Gaussian prior of weight `penalty`.

    The likelihood has many optima of nearly one height: the kernel of the pairs is the mean of those that were found.

    `outer` (P, P): effects times their transpose, a gene on average; `additive` (P, P) kernel of single genes, `same`
    (P, P) that of a pair's own, `error` (P,) variance of sampling; `owner` (m,) and `pairs` (m, 2) as `pairs_of`,
    `text` (n, q) vectors; `start` weights of `same` and of `error`.
    """
    import torch

    given = (torch.from_numpy(np.ascontiguousarray(x)) for x in (outer, additive, same, error, owner, pairs, text))
    outer_, additive_, same_, error_, owner_, pairs_, text_ = given
    rng = np.random.default_rng(0)

    def loss(axes: torch.Tensor, logs: torch.Tensor) -> torch.Tensor:
        """Negative log marginal likelihood of a gene on average, and the prior."""
        projected = text_ @ axes
        products = projected[pairs_[:, 0]] * projected[pairs_[:, 1]]  # (m, R)
        features = torch.zeros(len(outer_), rank, dtype=torch.float64).index_add(0, owner_, products)  # (P, R)
        factor, j, noise = logs.clamp(-12, 12).exp()
        kernel = factor * additive_ + features @ features.T + j * same_ + torch.diag(noise * error_ + 1e-6)
        lower, info = torch.linalg.cholesky_ex(kernel)
        if info:
            return logs.sum() * 0 + axes.sum() * 0 + BARRIER
        fit = torch.trace(torch.cholesky_solve(outer_, lower)) / 2 + torch.diagonal(lower).log().sum()
        return fit + penalty * (axes**2).sum()

    found = []
    for _ in range(starts):
        axes = torch.from_numpy(rng.normal(scale=START_SD, size=(text.shape[1], rank))).requires_grad_()
        logs = torch.tensor([0.0, *np.log(start)], dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.LBFGS([axes, logs], max_iter=STEPS, history_size=20, line_search_fn="strong_wolfe")

        def closure(axes=axes, logs=logs, optimiser=optimiser) -> torch.Tensor:
            optimiser.zero_grad()
            value = loss(axes, logs)
            value.backward()
            return value

        optimiser.step(closure)
        found.append((axes.detach().numpy() * starts**-0.25, logs.detach().clamp(-12, 12).numpy()))
    factor, j, noise = np.exp(np.mean([logs for _, logs in found], axis=0))
    return PairAxes(np.concatenate([axes for axes, _ in found], axis=1), float(factor), float(j), float(noise))
