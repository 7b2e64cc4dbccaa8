"""Route `between`: control cells moved to a treated state by the flow from cells to cells (method.md section 9).

What is carried is the change: expression decoded after the flow less expression decoded before it, both as expected
log1p of drawn counts, so that what the autoencoder loses of a cell cancels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from torch import Tensor

from scsave.baselines.carry import carried_groups
from scsave.data.conditions import Values
from scsave.method.decoding import CHUNK, inference, on
from scsave.method.fitted import METHOD, Fitted


@dataclass(frozen=True)
class Moved:
    """Latents before and after the flow, (N, L, d) each, library sizes (N,) and decoder conditions of control cells."""

    before: Tensor
    after: Tensor
    library: Tensor
    values: Values


def move(model: Fitted, control: AnnData, obs: pd.DataFrame, leave: float, target: str) -> Moved:
    """The flow from control cells (prepared) to `target`, which `obs` (N rows of condition columns) says too.

    The field is given source and target (its level and dose) and no other condition, since the cell brings its own
    identity; the decoder is given the cells' own technical levels; cells keep their library size.
    """
    network, library = model.network, model.library(control)
    before = model.latent(model.encode(control))  # (N, L, d)
    values = on(model.conditions.encode(obs), model.device)
    told, moved = network.velocity.told, None
    if len(told) > 1:
        moved = shift_of(model, target).expand(len(obs), -1)
    asked = model.conditions.only(values, *told)
    cells = torch.ones(len(obs), device=model.device)

    def field(x: Tensor, t: Tensor) -> Tensor:
        velocity = network.velocity(x, t.expand(len(x)), asked, cells, leave, moved)  # (N, D)
        return torch.cat([velocity[:, :-1], torch.zeros_like(velocity[:, -1:])], dim=1)

    with inference(network):
        x_0 = network.to_flow(before, library)
        x_0[:, -1] = 0.0
        after = network.from_flow(model.sampler.objective.sample(field, x_0, model.sampler.solver)[0])[0]
    return Moved(before, after, library, values)


def shift_of(model: Fitted, target: str) -> torch.Tensor:
    """The mean shift of a target, (D,): training's own, or read off those of its level (`Targets.weights`)."""
    shifts, known = model.network.velocity.shifts, model.targets
    weights = {name: w for name, w in known.weights(target).items() if name != known.control}  # control's shift is none
    order = sorted(known.labels)  # as `scsave.training.pairs` numbers them
    return sum(w * shifts[order.index(name)] for name, w in weights.items()) + torch.zeros_like(shifts[0])


def decoded_change(model: Fitted, moved: Moved, cells: np.ndarray) -> np.ndarray:
    """Mean over the cells at `cells` of expected log1p expression after less before, (G,)."""
    return decoded_moments(model, moved, cells)[0]


def decoded_moments(model: Fitted, moved: Moved, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance over the cells at `cells` of expected log1p expression after less before, (G,) each."""
    network, total = model.network, torch.zeros(len(model.genes), device=model.device)
    square = torch.zeros_like(total, dtype=torch.float64)
    with inference(network):
        for place in np.array_split(cells, max(1, -(-len(cells) // CHUNK))):
            values, size = {name: v[place] for name, v in moved.values.items()}, moved.library[place]
            after, before = (
                network.likelihood(network.decode(z[place], values), size).expected_log1p()
                for z in (moved.after, moved.before)
            )
            total += (after - before).sum(0)
            square += (after - before).double().square().sum(0)
    mean = (total / len(cells)).cpu().numpy().astype(np.float64)
    return mean, np.maximum(square.cpu().numpy() / len(cells) - mean**2, 0.0)


def between(
    model: Fitted,
    control: AnnData,
    obs: pd.DataFrame,
    groups: list[np.ndarray],
    target: str,
    seed: int,
    also: Callable[[AnnData, np.ndarray], np.ndarray] = lambda cells, change: change,
) -> AnnData:
    """The control cells under `target`, group by group (positions; a group is a cell type), in their order.

    `also(cells, change)` is what is made of the change of a group (G,).

    Cells are the control cells moved by the decoded change of their group. (Cells drawn from the decoder lose what the
    autoencoder loses of a type that it saw under control only: docs/response.md.)
    """
    moved, key = move(model, control, obs, model.info.get("leave", 1.0), target), model.info["perturbation"]
    place = {name: number for number, name in enumerate(control.obs_names)}

    def change(cells: AnnData) -> np.ndarray:
        return also(cells, decoded_change(model, moved, np.array([place[name] for name in cells.obs_names])))

    return carried_groups(control, groups, change, key, target, seed, METHOD)
