"""Axes of the gene vectors along which pairs of genes interact, learned by the marginal likelihood of the process over sets.

The interaction of a pair has the kernel `sum_r (l_r.v_p)(l_r.v_q) Q_r`, where the process integrates over the genes'
responses `Q_r`. All products of two coordinates are too many for the pairs of a screen (a space of 20 has 210, Norman's has
131 pairs); a few learned directions `l_r` are not.
"""

from dataclasses import dataclass

import numpy as np

STEPS = 200  # of L-BFGS, from each start
START_SD = 0.5  # of the coordinates of random starts
BARRIER = 1e12  # loss of a kernel that is not positive definite, where a line search went too far


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
    (P, P) that of a pair's own, `error` (P,) variance of sampling; `owner` (m,) and `pairs` (m, 2) as `kernel.pairs_of`,
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
