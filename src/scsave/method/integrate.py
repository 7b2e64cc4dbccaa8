"""Batch correction with a fitted SAVE (method.md section 6): an embedding that forgot the batch, and corrected expression."""

from __future__ import annotations

import time
from typing import Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from anndata import AnnData
from torch import Tensor

from scsave import __version__, keys
from scsave.data.gene_selection import select_cells
from scsave.errors import UserError
from scsave.method.decoding import CHUNK, inference, on
from scsave.method.fitted import Fitted
from scsave.method.sample import flowed, to_noise
from scsave.stats.pca import Projection, fit_pca, softened
from scsave.stats.resample import subsample

Route = Literal["decode", "translate"]
MEAN = "mean over batches"
AXES_CELLS = 20_000  # training cells that the axes of components are fitted on, at most
COMBINATIONS = "decoder_combinations"  # model.info: levels that the decoder is averaged over, where it never saw [MASK]


def integrate(model: Fitted, cells: AnnData, reference: str | None = None, route: Route = "decode") -> AnnData:
    """The cells with `obsm["X_save"]` (N, L * d) and corrected log1p expression, the likelihood's mean, in `X`, (N, G).

    `obsm["X_components"]` is expression under no reference on the axes that `fit_axes` found in training cells, where the
    model has some: as one batch would show them, cells of panc8 are further from their own kind (docs/correction.md).

    `decode`: the latent mean, which the decoder's knowledge of the batch lets forget it. `translate`: the latent first runs
    backwards through the flow under its own batch and forwards under the reference (`[MASK]` without one); a batch that
    training did not have is masked. Either is decoded under `reference`; without one under `[MASK]`, or where the decoder
    never saw `[MASK]` (training.decoder_mask_rate=0) under every combination that training had, and the rates averaged.
    `layers["counts"]` are the cells' own counts of the model's genes. UserError for a reference that training did not have
    and for a route through a flow that was not trained.
    """
    started = time.perf_counter()
    fitted = model.network
    obs, known = nuisance(model, cells.obs)
    if route == "translate" and not model.trained("flow"):
        raise UserError("route=translate needs a trained flow; this model has none: train it with task.route=translate")
    told = told_levels(model, reference)
    latent = model.encode(cells)
    z = model.latent(latent)
    library = torch.as_tensor(cells.obs[keys.LIBRARY].to_numpy(np.float32), device=model.device)
    if route == "translate":
        wanted = obs.assign(**dict.fromkeys(obs, keys.MASK))
        if reference is not None:
            wanted[model.info["batch_key"]] = reference
        source, target = (on(model.conditions.encode(frame), model.device) for frame in (obs, wanted))
        noise = to_noise(model, fitted.to_flow(z, library), source)
        z, _ = fitted.from_flow(flowed(model, noise, target, guided_by=1.0)[0])
        latent = z.flatten(1).cpu().numpy()
    expression = mean_expression(model, z, library, told)
    out = AnnData(X=expression, obs=cells.obs.copy(), var=pd.DataFrame(index=pd.Index(model.genes)))
    out.obsm[keys.LATENT] = np.ascontiguousarray(latent, dtype=np.float32)
    if model.axes is not None:
        plain = expression if reference is None else mean_expression(model, z, library, told_levels(model, None))
        out.obsm[keys.COMPONENTS] = model.axes(plain).astype(np.float32)
    shared = cells.var_names.get_indexer(model.genes)
    if (shared >= 0).all():
        out.layers[keys.COUNTS] = sp.csr_matrix(cells.layers[keys.COUNTS])[:, shared]
    out.uns[keys.UNS] = {
        "made_by": f"scsave {__version__}",
        keys.CORRECTED: True,
        "route": route,
        "reference": reference or (MEAN if COMBINATIONS in model.info else keys.MASK),
        "cells_of_unknown_batch": int((~known).sum()),
    }
    model.cost["seconds_integrate"] = time.perf_counter() - started
    return out


def fit_axes(model: Fitted, train: AnnData, n_components: int, seed: int) -> Projection:
    """Softened principal axes of the corrected expression of training cells, of `AXES_CELLS` at most."""
    cells = select_cells(train, subsample(train.n_obs, AXES_CELLS, seed))
    x = integrate(model, cells).X
    return softened(fit_pca(x, n_components, seed), x)


def told_levels(model: Fitted, reference: str | None) -> pd.DataFrame:
    """What the decoder is told, a row for each combination that expression is averaged over.

    UserError for a reference that training did not have.
    """
    batch = model.info.get("batch_key")
    rows = pd.DataFrame(model.info.get(COMBINATIONS) or [dict.fromkeys(model.decoder_conditions, keys.MASK)])
    if reference is None:
        return rows
    levels = next((c.levels for c in model.conditions.columns if c.name == batch), ())
    if reference not in levels:
        raise UserError(f"reference batch {reference}: not a level of {batch}; the model knows: {', '.join(levels)}")
    if COMBINATIONS in model.info:
        return rows[rows[batch] == reference]
    return rows.assign(**{batch: reference})


def mean_expression(model: Fitted, z: Tensor, library: Tensor, told: pd.DataFrame) -> np.ndarray:
    """log1p of the decoded means of latents (N, L, d), averaged over the rows of `told`: (N, G), dense as no mean is 0."""
    fitted, out = model.network, np.empty((len(z), len(model.genes)), dtype=np.float32)
    values = on(model.conditions.encode(told), model.device)
    with inference(fitted):
        for start in range(0, len(z), CHUNK):
            part, size = z[start : start + CHUNK], library[start : start + CHUNK]
            total = torch.zeros(len(part), len(model.genes), device=model.device)
            for row in range(len(told)):
                one = {name: v[row : row + 1].expand(len(part), *v.shape[1:]) for name, v in values.items()}
                total += fitted.likelihood(fitted.decode(part, one), size).mean()
            out[start : start + CHUNK] = fitted.to_log1p(total / len(told), size).cpu().numpy()
    return out


def describe(model: Fitted, cells: AnnData, found: AnnData) -> str:
    """What was embedded, and what the model had not met, in one line."""
    shared, of = int(cells.var_names.isin(model.genes).sum()), len(model.genes)
    lost = "" if shared == of else f"; {of - shared} of the model's {of} genes are not in the file and count as zero"
    unknown = found.uns[keys.UNS]["cells_of_unknown_batch"]
    masked = f"; {unknown} cells of a batch that training did not have, embedded as {keys.MASK}" if unknown else ""
    if absent := [name for name in model.conditions.names if name not in cells.obs]:
        masked += f"; no column {', '.join(absent)} in obs, so every cell's is {keys.MASK}"
    return f"{found.n_obs} cells embedded in {found.obsm[keys.LATENT].shape[1]} dimensions{lost}{masked}"


def nuisance(model: Fitted, obs: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
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


def combinations(obs: pd.DataFrame, columns: list[str], numeric: list[str]) -> list[dict[str, str | float]]:
    """Each combination of levels of `columns` in `obs`, as plain values; a numeric column at its mean in all of them."""
    at_mean = {name: float(obs[name].mean()) for name in columns if name in numeric}
    levels = obs[[name for name in columns if name not in numeric]].astype(str).drop_duplicates()
    return [row | at_mean for row in levels.to_dict("records")]
