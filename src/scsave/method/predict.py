"""Counterfactual cells under sets of genes that may never have been perturbed, and how far each is from training."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd
from anndata import AnnData

from scsave import keys
from scsave.data.from_anndata import as_prepared, with_genes
from scsave.data.perturbations import SEPARATOR, canonical, parse
from scsave.errors import UserError
from scsave.genes.space import TextSpace
from scsave.method.fitted import Fitted
from scsave.method.gene_sets import add_genes
from scsave.method.predict_levels import GENES, gene_table
from scsave.method.respond import respond
from scsave.method.trust import trust_of
from scsave.progress import each
from scsave.stats.expected import TRUST, trust_table, unknown

log = logging.getLogger(__name__)
SUMMARY = "per_perturbation"
FAR = 0.9  # of the training genes lie nearer to their nearest
SAME = 1e-6  # distance of two names of one gene
FEWEST = 3  # training genes that a distance can be judged against
SHOWN = 5  # genes that change most


@dataclass(frozen=True)
class Vocabulary:
    """What a model of gene sets learned its perturbations from."""

    space: TextSpace  # of gene vectors
    genes: list[str]  # the panel
    seen: list[str]  # genes that training perturbed
    sets: list[tuple[str, ...]]  # perturbations of training
    control: str
    weighted: bool = True  # did the vectors foretell training perturbations, so that they carry weight?

    @property
    def informed(self) -> bool:
        """Does the model use the vectors?"""
        return self.space.use_text


def vocabulary(model: Fitted) -> Vocabulary:
    """UserError for a model whose perturbations are not sets of genes."""
    if model.space is None:
        raise UserError(
            "this model knows no perturbed genes: predicting them needs a run of task=perturbation on data whose "
            "perturbations are sets of genes (data.perturbation_kind=genes)"
        )
    control = model.info["control"]
    sets = [parse(canonical(label, control), control) for label in model.info["perturbed"]]
    seen = sorted({gene for genes in sets for gene in genes})
    return Vocabulary(model.space, model.genes, seen, [genes for genes in sets if genes], control)


def predict(
    model: Fitted,
    perturbations: str | list[str],
    control: AnnData | None = None,
    seed: int = 0,
    route: str = "between",
    donor: str | None = None,
) -> AnnData:
    """`predict_sets` by the networks of a fitted SAVE, along `route`."""
    known = vocabulary(model)

    def cells_under(name: str, start: AnnData, seed: int) -> AnnData:
        add_genes(model, list(parse(name, known.control)))
        return respond(model, start, name, seed, route)

    start = model.control if control is None else control
    donor = model.info["batch"] if donor is None else donor
    return predict_sets(
        known, cells_under, perturbations, start, seed, lambda n: trust_of(model, None, n, route), donor
    )


def predict_sets(
    known: Vocabulary,
    cells_under: Callable[[str, AnnData, int], AnnData],
    perturbations: str | list[str],
    control: AnnData | None,
    seed: int = 0,
    trust: Callable[[str], dict[str, float] | None] | None = None,
    donor: str | None = None,
) -> AnnData:
    """Control cells under each perturbation (`KLF1+BAK1`, any usual spelling), stacked, and how much to trust each.

    `cells_under(name, control cells, seed)` predicts one, `trust(name)` says what accuracy to expect (`uns["trust"]`).
    The table `uns["per_perturbation"]` has a row for each perturbation, see `familiarity`; `uns["per_gene"]` one for each
    perturbation and gene (`gene_table`, its intervals over the levels of the column `donor`). UserError for a gene that
    nothing is known of, and without control cells.
    """
    listed = [perturbations] if isinstance(perturbations, str) else perturbations
    names = list(dict.fromkeys(as_trained(known, label) for label in listed))
    if not names or known.control in names:
        raise UserError(f"perturbations={perturbations}: name one or more sets of genes, such as [KLF1, KLF1+CEBPA]")
    known.space.place(sorted({gene for name in names for gene in parse(name, known.control)}))
    names = list(dict.fromkeys(without_aliases(known, name) for name in names))
    if control is None or not control.n_obs:
        raise UserError("this checkpoint carries no control cells; give a file that has some: data.path=<file>.h5ad")
    given = as_prepared(control)
    start = with_genes(given, known.genes)
    shown = each(names, "sampling", "perturbations")
    parts = {name: cells_under(name, start, seed + number) for number, name in enumerate(shown)}
    cells = ad.concat(parts, merge="same", uns_merge="first", index_unique="-")
    table = familiarity(known, names)
    before = np.asarray(start.X.mean(axis=0)).ravel()
    absent = ~np.isin(known.genes, given.var_names)
    cells.uns[keys.UNS]["absent_genes"] = int(absent.sum())
    cells.uns[TRUST] = trust_table({name: (trust and trust(name)) or unknown() for name in names})
    table = table.join(cells.uns[TRUST].drop(columns="note"))
    for name, part in parts.items():
        change = np.asarray(part.X.mean(axis=0)).ravel() - before  # (G,)
        order = np.argsort(-np.where(absent, -1.0, np.abs(change)), kind="stable")[:SHOWN]  # absent genes last
        table.loc[name, "cells"] = part.n_obs
        table.loc[name, "change"] = float(np.linalg.norm(change[~absent]))
        table.loc[name, "strongest"] = ", ".join(f"{known.genes[g]} {change[g]:+.2f}" for g in order)
    cells.uns[SUMMARY] = table.astype({"cells": int})
    tables = [gene_table({"target": name}, known.genes, start, part, donor) for name, part in parts.items()]
    cells.uns[GENES] = pd.concat([one.assign(in_file=~absent) for one in tables], ignore_index=True)
    return cells


def as_trained(known: Vocabulary, label: str) -> str:
    """Canonical label with genes as training, the model's genes or the vectors spell them: `stat1` is STAT1."""
    human = hasattr(known.space.vectors, "load") and known.space.organism == "human"
    exact = dict.fromkeys([*(known.space.vectors.load().genes if human else ()), *known.genes, *known.seen])
    spelt = {gene.casefold(): gene for gene in exact}
    genes = [gene if gene in exact else spelt.get(gene.casefold(), gene) for gene in parse(label, known.control)]
    return canonical(SEPARATOR.join(genes), known.control)


def without_aliases(known: Vocabulary, name: str) -> str:
    """`name` with genes that stand at the very place of a training gene called as that one is: EKLF is KLF1."""
    genes = parse(name, known.control)
    new = [gene for gene in genes if gene not in known.seen and gene not in known.space.without]
    if not known.informed or not new:
        return name
    near, distance = known.space.nearest(new, known.seen)
    same = {gene: other for gene, other, far in zip(new, near, distance, strict=True) if far < SAME}
    for gene, other in same.items():
        log.warning("%s is taken as %s: their vectors are the same", gene, other)
    return canonical(SEPARATOR.join(same.get(gene, gene) for gene in genes), known.control)


def familiarity(known: Vocabulary, names: list[str]) -> pd.DataFrame:
    """How far is each perturbation from what training showed? By name:

    `unseen_genes`, and of the farthest of them: the `nearest_gene` perturbed in training; `distance`, in the space of the
    texts, over the median distance of a training gene from its own nearest; `further_than`, the share of training genes
    that are nearer to theirs. `warning` says in words what to be wary of, and is empty otherwise.
    """
    space, seen = known.space, known.seen
    usual = space.nearest(seen, seen)[1]  # (S,)
    usual = usual[np.isfinite(usual)]
    trained, rows = set(known.sets), []
    for name in names:
        genes = parse(name, known.control)
        unseen = [gene for gene in genes if gene not in seen]
        row = {"in_training": genes in trained, "unseen_genes": ", ".join(unseen), "nearest_gene": ""}
        row |= {"distance": 0.0, "further_than": 0.0, "warning": ""}
        if unseen:
            near, distance = space.nearest(unseen, seen)
            at = int(np.nan_to_num(distance).argmax())
            typical = float(np.median(usual)) if len(usual) >= FEWEST else np.nan
            row |= {"nearest_gene": near[at], "distance": distance[at] / typical if typical else np.nan}
            row["further_than"] = float((usual < distance[at]).mean()) if len(usual) >= FEWEST else np.nan
            row["warning"] = warning(known, unseen, unseen[at], row)
        rows.append(row)
    return pd.DataFrame(rows, index=pd.Index(names, name="perturbation"))


def warning(known: Vocabulary, unseen: list[str], farthest: str, row: dict) -> str:
    """What a reader of the prediction must know, "" if nothing."""
    if not known.informed:
        return f"the model knows no texts: {', '.join(unseen)} predicted as the average perturbation"
    if not known.weighted:
        return (
            f"texts foretold none of the training perturbations, so they have no weight: {', '.join(unseen)} predicted as "
            "the average perturbation"
        )
    if blank := [gene for gene in unseen if gene in known.space.without]:
        return f"no vector for {', '.join(blank)}: predicted as an average gene"
    if np.isnan(row["further_than"]):
        return f"training perturbed {len(known.seen)} genes, too few to say how far {farthest} is from them"
    if row["further_than"] > FAR:
        return (
            f"{farthest} is {row['distance']:.1f} times as far from the nearest training gene ({row['nearest_gene']}) as "
            f"training genes usually are from theirs, further than {row['further_than']:.0%} of them: little but what all "
            "perturbations share speaks for this prediction"
        )
    return ""
