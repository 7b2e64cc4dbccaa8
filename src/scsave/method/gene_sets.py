"""The perturbation column where its levels are sets of genes: vocabulary from the vectors of genes, and genes added later."""

import dataclasses

import pandas as pd
import torch

from scsave.data.conditions import Conditions, GeneSet
from scsave.data.perturbations import canonical, parse
from scsave.genes.space import TextSpace
from scsave.keys import Columns
from scsave.method.fitted import Fitted
from scsave.models.conditions import GeneSetEmbedding


def perturbed_genes(labels: pd.Series, control: str) -> list[str]:
    """Genes that the labels of perturbations name, sorted."""
    return sorted({gene for label in labels.astype(str).unique() for gene in parse(canonical(label, control), control)})


def gene_set_columns(space: TextSpace, seen: list[str], columns: Columns, obs: pd.DataFrame) -> dict[str, GeneSet]:
    """The perturbation column as sets of genes, `seen` being the genes that training perturbed.

    A gene has a place if it was perturbed in training, is on the panel, or is named by a label of `obs`: the names of
    perturbations are no data. UserError where one has no vector (unless the space takes the average one).
    """
    sets = [parse(label, columns.control) for label in obs[columns.perturbation].astype(str).unique()]
    space.place(sorted({gene for genes in sets for gene in genes}))  # looks up those that are new
    genes = tuple(sorted(space.at))
    size = max([2, *(len(genes) for genes in sets)])
    known = set(seen)
    column = GeneSet(columns.perturbation, genes, tuple(gene in known for gene in genes), columns.control, size)
    return {columns.perturbation: column}


def add_genes(model: Fitted, genes: list[str]) -> None:
    """Give genes that training had no place for one in the networks. UserError where one has no vector."""
    network, points = model.network, torch.from_numpy(model.space.place(genes)).float()
    columns = []
    for column in network.conditions.columns:
        if isinstance(column, GeneSet):
            new = [number for number, gene in enumerate(genes) if gene not in column.genes]
            for module in network.modules() if new else ():
                if isinstance(module, GeneSetEmbedding):
                    module.extend(points[new])
            names = (*column.genes, *(genes[number] for number in new))
            seen = (*column.seen, *(False for _ in new))
            column = dataclasses.replace(column, genes=names, seen=seen)
        columns.append(column)
    network.conditions = network.velocity.conditions.conditions = Conditions(tuple(columns))
