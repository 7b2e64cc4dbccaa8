"""Batch correction with a fitted SAVE (method.md section 6): an embedding that forgot the batch, and corrected expression."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from anndata import AnnData

from scsave import __version__, keys
from scsave.decoding import decoded, inference, on
from scsave.errors import UserError
from scsave.flow.guidance import guided

if TYPE_CHECKING:
    from scsave.save import SAVE

Route = Literal["decode", "translate"]


def integrate(model: SAVE, cells: AnnData, reference: str | None = None, route: Route = "decode") -> AnnData:
    """The cells with `obsm["X_save"]` (N, L * d) and corrected log1p expression, the likelihood's mean, in `X`.

    `decode`: the latent mean, which the decoder's knowledge of the batch lets forget it, decoded under batch = `[MASK]` or
    under `reference`. `translate`: the latent first runs backwards through the flow under its own batch and forwards under
    the reference. A batch that training did not have is masked. `layers["counts"]` are the cells' own counts of the model's
    genes. UserError for a reference that training did not have.
    """
    started = time.perf_counter()
    fitted = model.fitted()
    obs, known = nuisance(model, cells.obs)
    wanted = obs.copy()
    column = model.info.get("batch_key")
    if reference is not None:
        levels = next((c.levels for c in model.conditions.columns if c.name == column), ())
        if reference not in levels:
            raise UserError(
                f"reference batch {reference}: not a level of {column}; the model knows: {', '.join(levels)}"
            )
    for name in wanted:
        wanted[name] = reference if reference is not None and name == column else keys.MASK
    latent = model.encode(cells)
    z = torch.from_numpy(latent).to(model.device).unflatten(1, (fitted.blocks.n_blocks, -1))
    library = torch.as_tensor(cells.obs[keys.LIBRARY].to_numpy(np.float32), device=model.device)
    source, target = (on(model.conditions.encode(frame), model.device) for frame in (obs, wanted))
    if route == "translate":
        with inference(fitted):
            own, other = (guided(fitted.velocity, model.conditions, values, 1.0) for values in (source, target))
            noise, _ = model.objective.invert(own, fitted.to_flow(z, library), model.solver)
            z, _ = fitted.from_flow(model.objective.sample(other, noise, model.solver)[0])
        latent = z.flatten(1).cpu().numpy()
    corrected = decoded(fitted, z, library, target, None, cells.obs[[]], {}).X
    out = AnnData(X=corrected, obs=cells.obs.copy(), var=pd.DataFrame(index=pd.Index(model.genes)))
    out.obsm[keys.LATENT] = np.ascontiguousarray(latent, dtype=np.float32)
    shared = cells.var_names.get_indexer(model.genes)
    if (shared >= 0).all():
        out.layers[keys.COUNTS] = sp.csr_matrix(cells.layers[keys.COUNTS])[:, shared]
    out.uns[keys.UNS] = {
        "made_by": f"scsave {__version__}",
        "corrected_expression": True,
        "route": route,
        "reference": reference or keys.MASK,
        "cells_of_unknown_batch": int((~known).sum()),
    }
    model.cost["seconds_integrate"] = time.perf_counter() - started
    return out


def nuisance(model: SAVE, obs: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """The model's condition columns, (N, C), levels that training lacked masked; and which cells needed none of that."""
    out, known = pd.DataFrame(index=obs.index), np.ones(len(obs), dtype=bool)
    for column in model.conditions.columns:
        values = obs[column.name] if column.name in obs else pd.Series(keys.MASK, index=obs.index)
        if column.kind == "categorical":
            values = values.astype(str)
            seen = values.isin(column.levels).to_numpy()
            values, known = values.where(seen, keys.MASK), known & seen
        out[column.name] = values
    return out, known
