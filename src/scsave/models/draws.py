"""Counts drawn from negative binomials without visiting the zeros, which most of a cell is."""

import torch
from torch import Tensor

WIDE = (
    3.0  # mean + mean / theta of an entry from which on a gamma-Poisson mixture is faster than the steps to its count
)
LAST = 1e-9  # probability of a count at which the tail is over: uniform numbers in single precision end before


def negative_binomial(log_mean: Tensor, log_theta: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """One draw of counts with means (N, G) and inverse dispersions (G,): places of the counts above zero in the flattened
    matrix, ascending, and those counts, (M,) each.

    By inversion: the smallest count whose cumulative probability reaches a uniform number; the zeros are decided by one
    comparison, and only the others go on, by `p(k + 1) = p(k) (k + theta) / (k + 1) mean / (mean + theta)`.
    """
    theta, mean, genes = log_theta.exp(), log_mean.exp(), log_mean.shape[1]
    zero = torch.exp(-theta * torch.log1p(mean / theta))  # (N, G): probability of no count
    u = torch.rand(mean.shape, generator=rng, device=mean.device)
    wide = mean * (1 + 1 / theta) > WIDE
    place = ((u > zero) & ~wide).flatten().nonzero()[:, 0]  # (M,)
    at, own = mean.flatten().index_select(0, place), theta.index_select(0, place % genes)
    p, left, ratio = zero.flatten().index_select(0, place), u.flatten().index_select(0, place), at / (at + own)
    count, live, k = torch.zeros_like(at), torch.arange(len(place), device=place.device), 0
    left -= p
    while len(live):
        p, k = p * ratio * ((k + own) / (k + 1)), k + 1
        count[live] = k
        going = ((left > p) & (p > LAST)).nonzero()[:, 0]
        left, p, ratio, own, live = (left - p)[going], p[going], ratio[going], own[going], live[going]
    others = wide.flatten().nonzero()[:, 0]
    shape = theta.index_select(0, others % genes)
    rate = torch._standard_gamma(shape, generator=rng) / shape * mean.flatten().index_select(0, others)
    more = torch.poisson(rate, generator=rng)
    place, count = torch.cat([place, others[more > 0]]), torch.cat([count, more[more > 0]])
    order = place.argsort()
    return place[order], count[order]
