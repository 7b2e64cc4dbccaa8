"""Cells from noise, a unit of rows at a time: the same cells however many processes share the units."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch
from rich.progress import track

from scsave.data.conditions import Values
from scsave.flow.guidance import Weight, guided
from scsave.method.decoding import inference, matrices, on

if TYPE_CHECKING:
    from scsave.method.save import SAVE

UNIT = 256  # rows that are drawn, solved and decoded together, from a generator of their own


@dataclass(frozen=True)
class Request:
    """What is asked for: encoded condition values of N cells, on the CPU."""

    n: int
    values: Values
    seed: int
    guidance: Weight


@dataclass(frozen=True)
class Unit:
    """Up to `UNIT` cells: counts and log1p (n, G), library sizes (n,), evaluations of the velocity network."""

    counts: sp.csr_matrix
    log1p: sp.csr_matrix
    library: np.ndarray
    evaluations: int


def sampled(model: SAVE, request: Request) -> Unit:
    """All cells that are asked for, by all processes of the run."""
    units = model.crew.ask(model.sample_units, request) if model.crew else model.sample_units(request)
    return Unit(
        counts=sp.vstack([unit.counts for unit in units], format="csr"),
        log1p=sp.vstack([unit.log1p for unit in units], format="csr"),
        library=np.concatenate([unit.library for unit in units]),
        evaluations=max(unit.evaluations for unit in units),
    )


def units_of(model: SAVE, request: Request, rank: int = 0, size: int = 1) -> list[Unit]:
    """Every `size`-th unit from `rank` on."""
    starts = range(0, request.n, UNIT)[rank::size]
    silent = rank > 0 or len(starts) < 3 or not sys.stderr.isatty()
    shown = track(starts, "generating cells", disable=silent, transient=True)
    return [unit(model, request, start // UNIT) for start in shown]


def unit(model: SAVE, request: Request, number: int) -> Unit:
    """Rows `number * UNIT` to the next unit."""
    network, rows = model.fitted(), slice(number * UNIT, min((number + 1) * UNIT, request.n))
    values = on({name: v[rows] for name, v in request.values.items()}, model.device)
    rng = torch.Generator(model.device).manual_seed(unit_seed(request.seed, number))
    x_0 = torch.randn(rows.stop - rows.start, network.n_latent + 1, generator=rng, device=model.device)
    with inference(network):
        field = guided(network.velocity, network.conditions, values, request.guidance)
        x_1, evaluations = model.objective.sample(field, x_0, model.solver)
    z, library = network.from_flow(x_1)
    library = library.clamp(*model.info["library_range"]).round()
    counts, log1p = matrices(network, z, library, values, rng)
    return Unit(counts, log1p, library.cpu().numpy(), evaluations)


def unit_seed(seed: int, number: int) -> int:
    """The seed itself for the first unit, one derived from both for the others."""
    return seed if number == 0 else int(np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0] >> 1)
