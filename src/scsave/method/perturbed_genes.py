"""The genes that perturbations may name, as a condition column of the networks: what the response head knows of them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor

from scsave.baselines.gene_sets import GeneSetResponse
from scsave.data.conditions import Conditions, GeneSet
from scsave.data.perturbations import parse

if TYPE_CHECKING:
    from scsave.keys import Columns
    from scsave.method.save import SAVE


def gene_set_columns(head: Any, columns: Columns, obs: pd.DataFrame) -> dict[str, GeneSet]:
    """The perturbation column where it names sets of genes and there is a head that has vectors for them.

    A gene has a place if it was perturbed in training, is on the panel, or is named by a label of `obs`: the names of
    perturbations are no data. Without a head the column is an ordinary category.
    """
    if columns.kind != "genes" or not isinstance(head, GeneSetResponse):
        return {}
    sets = [parse(label, columns.control) for label in obs[columns.perturbation].astype(str).unique()]
    named = sorted({gene for genes in sets for gene in genes})
    head.space.place(named)  # looks up those that are new; raises where one has no vector
    genes = tuple(sorted(head.space.at))
    seen = set(head.seen)
    size = max([2, *(len(genes) for genes in sets)])
    column = GeneSet(columns.perturbation, genes, tuple(gene in seen for gene in genes), columns.control, size)
    return {columns.perturbation: column}


def text_vectors(head: Any, conditions: Conditions) -> dict[str, Tensor]:
    """Text coordinates (genes, q) of every gene-set column."""
    return {
        column.name: torch.from_numpy(head.space.place(list(column.genes))).float()
        for column in conditions.columns
        if isinstance(column, GeneSet)
    }


def meet(save: SAVE, genes: list[str]) -> None:
    """Give genes that training had no place for one, in the head and in the networks. UserError where one has no vector."""
    from scsave.models.networks import GeneSetEmbedding

    model, points = save.fitted(), torch.from_numpy(save.head.space.place(genes)).float()
    columns = []
    for column in model.conditions.columns:
        if isinstance(column, GeneSet):
            new = [number for number, gene in enumerate(genes) if gene not in column.genes]
            for module in model.modules() if new else ():
                if isinstance(module, GeneSetEmbedding):
                    module.extend(points[new])
            names = (*column.genes, *(genes[number] for number in new))
            seen = (*column.seen, *(False for _ in new))
            column = dataclasses.replace(column, genes=names, seen=seen)
        columns.append(column)
    model.conditions = Conditions(tuple(columns))
