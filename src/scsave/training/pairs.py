"""Pairs of control and treated cells for the flow from cells: strata in which both are, each drawn equally often."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from scsave.data.perturbations import canonical_names
from scsave.data.targets import labels
from scsave.keys import Columns

FEWEST = 10  # cells a side that make a stratum
CELLS = 256  # a step, dealt out to the strata that it draws
STRATA = (4, 16)  # fewest and most strata of a step


@dataclass(frozen=True)
class Pairs:
    """Places of control and treated cells, one entry for each stratum and target of the perturbation column."""

    control: list[Tensor]
    treated: list[Tensor]
    names: list[str]  # of the strata
    targets: list[int] = field(default_factory=list)  # of each, its number among the targets of training
    labels: list[str] = field(default_factory=list)  # of the targets

    def __len__(self) -> int:
        return len(self.control)

    def drawn(self, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Places of control and treated cells (M,) each, the number of their stratum in this draw and their entry (M,)."""
        n = min(max(len(self) // 4, STRATA[0]), STRATA[1])
        size, device = CELLS // n, self.control[0].device
        chosen = torch.randint(len(self), (n,), generator=rng, device=device).tolist()
        places = []
        for side in (self.control, self.treated):
            own = [side[k][torch.randint(len(side[k]), (size,), generator=rng, device=device)] for k in chosen]
            places.append(torch.cat(own))
        entry = torch.tensor(chosen, device=device).repeat_interleave(size)
        return places[0], places[1], torch.arange(n, device=device).repeat_interleave(size), entry

    def without(self, strata: set[str]) -> Pairs:
        keep = [k for k, name in enumerate(self.names) if name not in strata]
        kept = ([side[k] for k in keep] for side in (self.control, self.treated, self.names, self.targets))
        return Pairs(*kept, self.labels)

    def to(self, device: torch.device) -> Pairs:
        return replace(self, control=[c.to(device) for c in self.control], treated=[t.to(device) for t in self.treated])


def pairs_of(obs: pd.DataFrame, columns: Columns) -> Pairs | None:
    """Strata of the cells: type and batch where both sides have `FEWEST` cells there, else the type; None where there is none.

    For sets of genes the strata are batches, since their cells are of one kind. None without a perturbation column.
    """
    if columns.perturbation is None:
        return None
    level = labels(obs, columns)
    if columns.kind == "genes":
        level = canonical_names(pd.Series(level), columns.control).to_numpy()
    everything = np.full(len(obs), "all")
    coarse = everything if columns.cell_type is None else obs[columns.cell_type].astype(str).to_numpy()
    batch = everything if columns.batch is None else obs[columns.batch].astype(str).to_numpy()
    fine = pd.Series(coarse, dtype=object) + "|" + pd.Series(batch, dtype=object)
    control, treated, names, numbers = [], [], [], []
    known = sorted(set(level) - {columns.control})
    for number, target in enumerate(known):
        for kind in sorted(set(coarse)):
            own = coarse == kind
            sides = own & (level == columns.control), own & (level == target)
            inside = [(sides[0] & (fine == f), sides[1] & (fine == f)) for f in sorted(set(fine[own]))]
            inside = [pair for pair in inside if min(pair[0].sum(), pair[1].sum()) >= FEWEST]
            for a, b in inside or [sides]:
                if min(a.sum(), b.sum()) >= min(FEWEST, max(2, a.sum())):
                    control.append(torch.from_numpy(np.flatnonzero(a)))
                    treated.append(torch.from_numpy(np.flatnonzero(b)))
                    names.append(kind if columns.kind == "level" else target)
                    numbers.append(number)
    return Pairs(control, treated, names, numbers, known) if control else None
