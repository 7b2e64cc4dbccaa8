"""Batch correction with a fitted SAVE (method.md section 9): the integration head's embedding, and corrected expression."""

import time

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from anndata import AnnData
from torch import Tensor

from scsave import __version__, keys
from scsave.errors import UserError
from scsave.method.decoding import CHUNK, inference, on
from scsave.method.fitted import Fitted
from scsave.progress import each
from scsave.stats.pca import fit_pca, softened
from scsave.stats.resample import subsample

MEAN = "mean over batches"
AXES_CELLS = 5000  # training cells, at most, that the embedding's axes are fitted on


def integrate(model: Fitted, cells: AnnData, reference: str | None = None) -> AnnData:
    """The cells (prepared) with `obsm["X_save"]` (N, k + c) and corrected log1p expression in `X`, (N, G).

    The embedding is the code of the integration head, and beside it principal components of corrected expression (the mean
    over batches, whatever the reference) on the axes of training cells. The head sees the latent alone: a batch that
    training did not have is embedded as any other, and counted. Expression is the decoded mean of the latent as the head
    has it under `reference`, or under each combination of technical levels that training had, and the rates averaged.
    `layers["counts"]` are the cells' own counts of the model's genes. UserError for a reference that training did not
    have and for a model without a head.
    """
    started, network = time.perf_counter(), model.network
    check_head(model)
    given = technical_levels(model, reference)
    z = torch.from_numpy(model.encode(cells)).to(model.device)  # (N, L * d)
    library = model.library(cells)
    expression = mean = corrected(model, z, library, technical_levels(model, None))
    if reference is not None:
        expression = corrected(model, z, library, given)
    with inference(network):
        code = network.head.encode(z).mu  # (N, k)
        parts = (slice(i, i + CHUNK) for i in range(0, len(z), CHUNK))
        embedded = [network.head.embedding(code[part], torch.from_numpy(mean[part]).to(code)) for part in parts]
    out = AnnData(X=expression, obs=cells.obs.copy(), var=pd.DataFrame(index=pd.Index(model.genes)))
    out.obsm[keys.LATENT] = torch.cat(embedded).cpu().numpy()
    shared = cells.var_names.get_indexer(model.genes)
    if (shared >= 0).all():
        out.layers[keys.COUNTS] = sp.csr_matrix(cells.layers[keys.COUNTS])[:, shared]
    out.uns[keys.UNS] = {
        "made_by": f"scsave {__version__}",
        keys.CORRECTED: True,
        "reference": reference or MEAN,
        "cells_of_unknown_batch": int((~known_levels(model, cells.obs)).sum()),
    }
    model.cost["seconds_integrate"] = time.perf_counter() - started
    return out


def fit_axes(model: Fitted, train: AnnData, seed: int) -> None:
    """Give the integration head the axes of its embedding, from training cells (prepared).

    Components are divided by the root of their sd (`scsave.stats.pca.softened`), and each of the two parts is brought to a
    total variance of 1. That both are in it was measured: docs/correction.md.
    """
    head = model.network.head
    cells = train[subsample(train.n_obs, AXES_CELLS, seed)]
    z = torch.from_numpy(model.encode(cells)).to(model.device)
    x = corrected(model, z, model.library(cells), technical_levels(model, None))  # (N, G)
    with inference(model.network):
        code = head.encode(z).mu  # (N, k)
        head.code_centre.copy_(code.mean(0))
        head.code_scale.copy_(total_sd(code))
    if head.axes.shape[1] and len(x) > 1:
        pca = softened(fit_pca(x, head.axes.shape[1], seed), x)
        axes = torch.zeros_like(head.axes)
        axes[:, : pca.components.shape[1]] = torch.from_numpy(pca.components).to(axes)
        axes /= total_sd(torch.from_numpy(x).to(axes) @ axes)
        head.axes.copy_(axes)
        head.centre.copy_(torch.from_numpy(pca.mean).to(axes) @ axes)


def total_sd(x: Tensor) -> Tensor:
    """Root of the summed variances of the columns of (N, D)."""
    return x.var(0, correction=0).sum().sqrt().clamp(min=1e-6)


def check_head(model: Fitted) -> None:
    """UserError for a model whose integration head is not trained."""
    if model.network.head is None or not model.trained("head"):
        raise UserError(
            "this model has no integration head: it needs a technical column (data.batch_key or data.nuisance), and "
            "training for task=batch_correction"
        )


def technical_levels(model: Fitted, reference: str | None) -> pd.DataFrame:
    """Technical levels that expression is averaged over, a row a combination. UserError for an unknown reference."""
    names, batch = model.info["technical"], model.info["batch"]
    table = pd.DataFrame(model.info["levels"])
    categorical = [name for name in names if name in table]
    rows = table[categorical].drop_duplicates() if categorical else pd.DataFrame(index=[0])
    rows = rows.assign(**{name: keys.MASK for name in names if name not in rows})
    if reference is None:
        return rows
    levels = sorted(rows[batch].unique()) if batch in rows else []
    if reference not in levels:
        raise UserError(f"reference batch {reference}: not a level of {batch}; the model knows: {', '.join(levels)}")
    return rows[rows[batch] == reference]


def corrected(model: Fitted, z: Tensor, library: Tensor, given: pd.DataFrame) -> np.ndarray:
    """log1p of the decoded means of latents (N, L * d), averaged over the rows of `given`: (N, G), dense as no mean is 0."""
    network, out = model.network, np.empty((len(z), len(model.genes)), dtype=np.float32)
    values = on(model.conditions.encode(given), model.device)
    with inference(network):
        for start in each(range(0, len(z), CHUNK), "correcting", "cells", CHUNK, len(z)):
            part, size = z[start : start + CHUNK], library[start : start + CHUNK]
            total = torch.zeros(len(part), len(model.genes), device=model.device)
            for row in range(len(given)):
                one = {name: v[row : row + 1].expand(len(part), *v.shape[1:]) for name, v in values.items()}
                latent = network.head.corrected(part, one).unflatten(1, (network.blocks.n_blocks, -1))  # (N, L, d)
                total += network.likelihood(network.decode(latent, one), size).mean()
            out[start : start + CHUNK] = network.to_log1p(total / len(given), size).cpu().numpy()
    return out


def known_levels(model: Fitted, obs: pd.DataFrame) -> np.ndarray:
    """Cells whose technical levels training had, (N,) bool; a column that the cells lack is known to none."""
    known = np.ones(len(obs), dtype=bool)
    for column in model.conditions.columns:
        if column.name in model.info["technical"] and column.kind == "categorical":
            known &= obs[column.name].astype(str).isin(column.levels).to_numpy() if column.name in obs else False
    return known


def describe(model: Fitted, cells: AnnData, found: AnnData) -> str:
    """What was embedded, and what the model had not met, in one line."""
    shared, of = int(cells.var_names.isin(model.genes).sum()), len(model.genes)
    lost = "" if shared == of else f"; {of - shared} of the model's {of} genes are not in the file and count as zero"
    unknown = found.uns[keys.UNS]["cells_of_unknown_batch"]
    said = (
        f"; {unknown} cells of a batch that training did not have: their batch effect was never seen" if unknown else ""
    )
    if absent := [name for name in model.info["technical"] if name not in cells.obs]:
        said = f"; no column {', '.join(absent)} in obs, so no cell's batch is known"
    return f"{found.n_obs} cells embedded in {found.obsm[keys.LATENT].shape[1]} dimensions{lost}{said}"
