"""The shift of sets of genes before the flow from cells: a penalised fit to the mean changes of the training sets (ours).

As a level starts at its mean shift, a set starts at one that is additive over its genes. What a gene has beside what its
vector says, what pairs add, and how far vectors tell genes apart are each penalised, since a set has few cells; how much,
training sets held out in turn say.
"""

from __future__ import annotations

import copy
import itertools
import math

import torch
from torch import Tensor

from scsave.models.conditions import SetShift, Values

STEPS, LR = 400, 5e-3
OWN, BY_VECTOR = (
    (1.0, 10.0, 100.0),
    (0.0, 3.0, 30.0),
)  # penalties: of a gene's own part and of pairs; of what vectors say
USUAL = (10.0, 3.0)  # where sets are too few to choose by
FEWEST, GROUPS = 8, 4  # sets that a choice needs, and groups of them that are held out in turn
Penalty = tuple[float, float]


def fit_set_shift(
    shift: SetShift,
    values: Values,
    changes: Tensor,
    weight: Tensor,
    names: list[str],
    seed: int,
    penalty: Tensor | None = None,
) -> None:
    """Fit `shift` in place to the mean changes (P, D) of sets, given as `values`; its `penalty` says what was chosen.

    `weight` (P,) counts the cells behind a change, `names` (P) are of the sets, which are held out whole to choose.
    """
    order = sorted(set(names))
    chosen = USUAL if penalty is None else tuple(penalty.tolist())
    if penalty is None and len(order) >= FEWEST:
        draw = torch.randperm(len(order), generator=torch.Generator().manual_seed(seed)).tolist()
        group = {name: draw[k] % GROUPS for k, name in enumerate(order)}
        held = torch.tensor([group[name] for name in names], device=changes.device)
        missed = {
            one: _held_out(shift, values, changes, weight, held, one) for one in itertools.product(OWN, BY_VECTOR)
        }
        chosen = min(missed, key=missed.get)
    _fit(shift, values, changes, weight, chosen)
    shift.penalty.copy_(torch.tensor(chosen))


def _held_out(
    shift: SetShift, values: Values, changes: Tensor, weight: Tensor, held: Tensor, penalty: Penalty
) -> float:
    """Weighted squared error of the changes of groups `held` (P,) that are left out in turn."""
    total = 0.0
    for number in range(GROUPS):
        out = held == number
        one = copy.deepcopy(shift)
        # a gene that only held-out sets have keeps its own part at zero: the penalty sees to that
        _fit(one, {name: value[~out] for name, value in values.items()}, changes[~out], weight[~out], penalty)
        with torch.no_grad():
            error = (one({name: value[out] for name, value in values.items()}) - changes[out]).square().sum(1)
        total += float((error * weight[out]).sum())
    return total


def _fit(shift: SetShift, values: Values, changes: Tensor, weight: Tensor, penalty: Penalty) -> None:
    own, by_vector = penalty
    embedding, share = shift.embedding, weight / weight.sum()
    seen = embedding.vectors[:-1][embedding.own[:-1] > 0]  # (S, q)
    shift.train().requires_grad_(True)
    optimiser = torch.optim.Adam(shift.parameters(), lr=LR)
    for step in range(STEPS):
        optimiser.param_groups[0]["lr"] = LR * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        told = embedding.map(seen)  # (S, e)
        loss = ((shift(values) - changes).square().sum(1) * share).sum()
        loss = loss + own * shift.out(embedding.residual.weight[1:]).square().sum() / len(changes)
        loss = loss + own * (shift.out.weight @ embedding.pairwise.weight).square().sum() / len(changes)
        loss = loss + by_vector * shift.out(told - told.mean(0)).square().sum() / len(changes)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
