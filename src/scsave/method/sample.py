"""Cells out of a fitted SAVE's flow: from noise under conditions, or from other cells under other conditions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from torch import Tensor

from scsave import keys
from scsave.data.conditions import Values
from scsave.errors import UserError
from scsave.flow.guidance import Weight, guided
from scsave.method.decoding import as_cells, decoded, inference, on
from scsave.method.units import Request, sampled

if TYPE_CHECKING:
    from scsave.method.save import SAVE


def generate(
    save: SAVE, cells: int | pd.DataFrame, condition: dict[str, Any] | None, seed: int, guidance: Weight | None
) -> AnnData:
    """See `SAVE.generate`."""
    obs = asked(save, cells, condition)
    weight = save.guidance if guidance is None else guidance
    started = time.perf_counter()
    made = sampled(save, Request(len(obs), save.conditions.encode(obs), seed, weight))
    seconds = time.perf_counter() - started
    save.cost |= {
        "seconds_sample": seconds,
        "cells_per_second_sample": len(obs) / max(seconds, 1e-9),
        "sampling_evaluations": made.evaluations,
    }
    info = {"what": "generated cells"} | save.info
    return as_cells(save.fitted(), made.counts, made.log1p, made.library, obs, info)


def translate(
    save: SAVE, cells: AnnData, target: pd.DataFrame, seed: int, guidance: Weight | None, draw: bool
) -> AnnData:
    """See `SAVE.translate`."""
    model, source = save.fitted(), on(save.conditions.encode(cells.obs), save.device)
    wanted = on(save.conditions.encode(target), save.device)
    z = torch.from_numpy(save.encode(cells)).to(save.device).unflatten(1, (model.blocks.n_blocks, -1))
    library = torch.as_tensor(cells.obs[keys.LIBRARY].to_numpy(np.float32), device=save.device)
    with inference(model):
        noise, _ = save.objective.invert(
            guided(model.velocity, save.conditions, source, 1.0), model.to_flow(z, library), save.solver
        )
        z, library = model.from_flow(flowed(save, noise, wanted, guidance)[0])
    rng = torch.Generator(save.device).manual_seed(seed) if draw else None
    library = library.clamp(*save.info["library_range"]).round()
    return decoded(model, z, library, wanted, rng, target, save.info)


def flowed(save: SAVE, x_0: Tensor, values: Values, guidance: Weight | None) -> tuple[Tensor, int]:
    """Noise (N, D) to latents (N, D) under `values`, and the evaluations of the network that it took."""
    model = save.fitted()
    with inference(model):
        field = guided(model.velocity, save.conditions, values, save.guidance if guidance is None else guidance)
        return save.objective.sample(field, x_0, save.solver)


def asked(save: SAVE, cells: int | pd.DataFrame, condition: dict[str, Any] | None) -> pd.DataFrame:
    """One row of condition columns a cell. UserError on unknown columns."""
    if isinstance(cells, pd.DataFrame):
        return cells[[name for name in save.conditions.names if name in cells]].copy()
    condition = condition or {}
    if not isinstance(condition, dict):
        raise UserError(
            f"condition={condition!r}: give {{column: level}}, such as {{{save.conditions.names[0]!r}: ...}}"
        )
    if unknown := set(condition) - set(save.conditions.names):
        known = ", ".join(save.conditions.names) or "none"
        raise UserError(f"condition names {', '.join(sorted(unknown))}; the model's conditions are: {known}")
    if cells < 1:
        raise UserError(f"n={cells}: at least one cell must be asked for")
    index = [f"generated-{i}" for i in range(cells)]
    columns = {name: [condition.get(name, keys.MASK)] * cells for name in save.conditions.names}
    return pd.DataFrame(columns, index=index)
