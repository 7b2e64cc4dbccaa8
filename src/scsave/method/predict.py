"""What would cells look like if these genes were perturbed, alone or together? Asked of a trained model, for any genes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
from anndata import AnnData

from scsave import keys
from scsave.baselines.gene_sets import GeneSetResponse
from scsave.data.ordinary import as_prepared, with_genes
from scsave.data.perturbations import SEPARATOR, canonical, parse
from scsave.errors import UserError
from scsave.method.perturbed_genes import meet
from scsave.method.routes import respond

if TYPE_CHECKING:
    from scsave.method.save import SAVE

log = logging.getLogger(__name__)
SUMMARY = "per_perturbation"
FAR = 0.9  # of the training genes lie nearer to their nearest
SAME = 1e-6  # distance of two names of one gene
FEWEST = 3  # training genes that a distance can be judged against
SHOWN = 5  # genes that change most


def predict(
    model: SAVE, perturbations: str | list[str], control: AnnData | None = None, seed: int = 0, route: str = "response"
) -> AnnData:
    """Control cells under each perturbation (`KLF1+BAK1`, any usual spelling), stacked, and how much to trust each.

    `control` are cells without perturbation (`as_prepared`), by default those that the checkpoint carries. The table
    `uns["per_perturbation"]` has a row for each perturbation, see `familiarity`. UserError for a model of levels, for a
    gene that nothing is known of, and without control cells.
    """
    head = head_of(model)
    asked = [perturbations] if isinstance(perturbations, str) else perturbations
    names = list(dict.fromkeys(as_trained(head, label) for label in asked))
    if not names or head.control in names:
        raise UserError(f"perturbations={perturbations}: name one or more sets of genes, such as [KLF1, KLF1+CEBPA]")
    meet(model, sorted({gene for name in names for gene in parse(name, head.control)}))
    names = list(dict.fromkeys(without_aliases(head, name) for name in names))
    given = model.control if control is None else as_prepared(control)
    start = given if given is None else with_genes(given, model.genes)
    if start is None or not start.n_obs:
        raise UserError("this checkpoint carries no control cells; give a file that has some: data.path=<file>.h5ad")
    parts = {name: respond(model, start, name, seed + number, route) for number, name in enumerate(names)}
    cells = ad.concat(parts, merge="same", uns_merge="first", index_unique="-")
    table = familiarity(head, names)
    before = np.asarray(start.X.mean(axis=0)).ravel()
    absent = ~np.isin(model.genes, given.var_names)
    cells.uns[keys.UNS]["absent_genes"] = int(absent.sum())
    for name, part in parts.items():
        change = np.asarray(part.X.mean(axis=0)).ravel() - before  # (G,)
        order = np.argsort(-np.abs(np.where(absent, 0, change)), kind="stable")[:SHOWN]
        table.loc[name, "cells"] = part.n_obs
        table.loc[name, "change"] = float(np.linalg.norm(change[~absent]))
        table.loc[name, "strongest"] = ", ".join(f"{model.genes[g]} {change[g]:+.2f}" for g in order)
    cells.uns[SUMMARY] = table.astype({"cells": int})
    return cells


def head_of(model: SAVE) -> GeneSetResponse:
    """What the model knows of perturbed genes; UserError where that is nothing."""
    if not isinstance(model.head, GeneSetResponse):
        raise UserError(
            "this model knows no perturbed genes: predicting them needs a run of task=perturbation on data whose "
            "perturbations are sets of genes (data.perturbation_kind=genes)"
        )
    return model.head


def as_trained(head: GeneSetResponse, label: str) -> str:
    """Canonical label with genes as training, the model's genes or the vectors spell them: `stat1` is STAT1."""
    human = hasattr(head.space.vectors, "load") and head.organism == "human"
    exact = dict.fromkeys([*(head.space.vectors.load().genes if human else ()), *head.genes, *head.seen])
    known = {gene.casefold(): gene for gene in exact}
    genes = [gene if gene in exact else known.get(gene.casefold(), gene) for gene in parse(label, head.control)]
    return canonical(SEPARATOR.join(genes), head.control)


def without_aliases(head: GeneSetResponse, name: str) -> str:
    """`name` with genes that stand at the very place of a training gene called as that one is: EKLF is KLF1."""
    genes = parse(name, head.control)
    new = [gene for gene in genes if gene not in head.seen and gene not in head.space.without]
    if not head.text or not new:
        return name
    near, distance = head.space.nearest(new, head.seen)
    same = {gene: other for gene, other, far in zip(new, near, distance, strict=True) if far < SAME}
    for gene, other in same.items():
        log.warning("%s is taken as %s: their vectors are the same", gene, other)
    return canonical(SEPARATOR.join(same.get(gene, gene) for gene in genes), head.control)


def familiarity(head: GeneSetResponse, names: list[str]) -> pd.DataFrame:
    """How far is each perturbation from what training showed? By name:

    `unseen_genes`, and of the farthest of them: the `nearest_gene` perturbed in training; `distance`, in the space of the
    texts, over the median distance of a training gene from its own nearest; `further_than`, the share of training genes
    that are nearer to theirs. `warning` says in words what to be wary of, and is empty otherwise.
    """
    space, seen = head.space, head.seen
    usual = space.nearest(seen, seen)[1]  # (S,)
    usual = usual[np.isfinite(usual)]
    trained, rows = {tuple(genes) for genes in head.sets}, []
    for name in names:
        genes = parse(name, head.control)
        unseen = [gene for gene in genes if gene not in seen]
        row = {"in_training": genes in trained, "unseen_genes": ", ".join(unseen), "nearest_gene": ""}
        row |= {"distance": 0.0, "further_than": 0.0, "warning": ""}
        if unseen:
            near, distance = space.nearest(unseen, seen)
            at = int(np.nan_to_num(distance).argmax())
            typical = float(np.median(usual)) if len(usual) >= FEWEST else np.nan
            row |= {"nearest_gene": near[at], "distance": distance[at] / typical if typical else np.nan}
            row["further_than"] = float((usual < distance[at]).mean()) if len(usual) >= FEWEST else np.nan
            row["warning"] = warning(head, unseen, unseen[at], row)
        rows.append(row)
    return pd.DataFrame(rows, index=pd.Index(names, name="perturbation"))


def warning(head: GeneSetResponse, unseen: list[str], farthest: str, row: dict) -> str:
    """What a reader of the prediction must know, "" if nothing."""
    if not head.text:
        return f"the model knows no texts: {', '.join(unseen)} predicted as the average perturbation"
    if not any(head.chosen[name] for name in "abi"):
        return (
            f"texts foretold none of the training perturbations, so they have no weight: {', '.join(unseen)} predicted as "
            "the average perturbation"
        )
    if blank := [gene for gene in unseen if gene in head.space.without]:
        return f"no vector for {', '.join(blank)}: predicted as an average gene"
    if np.isnan(row["further_than"]):
        return f"training perturbed {len(head.seen)} genes, too few to say how far {farthest} is from them"
    if row["further_than"] > FAR:
        return (
            f"{farthest} is {row['distance']:.1f} times as far from the nearest training gene ({row['nearest_gene']}) as "
            f"training genes usually are from theirs, further than {row['further_than']:.0%} of them: little but what all "
            "perturbations share speaks for this prediction"
        )
    return ""
