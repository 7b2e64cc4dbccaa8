"""Splits of genetic perturbations: what was never perturbed in training, and how much of a pair was."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pandas as pd
from anndata import AnnData
from pydantic import Field

from scsave import keys
from scsave.data.perturbations import parse
from scsave.data.splits.split import Split, make_split
from scsave.data.splits.strata import draw_share
from scsave.data.splits.strategies import Share
from scsave.errors import UserError
from scsave.keys import Columns

CONTROL = "control"  # the part of each group that holds its control cells


def perturbation_sets(data: AnnData, columns: Columns, split: str) -> tuple[pd.Series, dict[str, tuple[str, ...]]]:
    """The perturbation of each cell and the genes of each perturbation (control: none)."""
    if columns.perturbation is None or columns.control is None:
        raise UserError(f"split={split} needs data.perturbation_key and data.control; {columns.name} has none")
    labels = data.obs[columns.perturbation].astype(str)
    return labels, {label: parse(label, columns.control) for label in sorted(labels.unique())}


def control_cells(labels: pd.Series, sets: dict[str, tuple[str, ...]]) -> np.ndarray:
    """Cells whose set of perturbed genes is empty, (N,) bool."""
    return labels.isin([label for label, genes in sets.items() if not genes]).to_numpy()


def seen_group(genes: tuple[str, ...], seen: set[str]) -> str:
    """`unseen_single` or `combo_seen<k>`: k of the genes of the set were perturbed in training."""
    known = sum(gene in seen for gene in genes)
    return ("seen_single" if known else "unseen_single") if len(genes) == 1 else f"combo_seen{known}"


def gears_simulation(
    sets: dict[str, tuple[str, ...]], gene_share: float, combo_share: float, seed: int
) -> tuple[list[str], dict[str, str]]:
    """Training perturbations, and the group of each held-out one (GEARS, Roohani et al. 2023, `simulation`).

    `gene_share` of the perturbed genes are seen; their singles train. A set of several genes with some unseen is held
    out; of those whose genes are all seen, `combo_share` train.
    """
    rng = np.random.default_rng(seed)
    genes = sorted({gene for members in sets.values() for gene in members})
    seen = set(rng.choice(genes, int(len(genes) * gene_share), replace=False).tolist())
    whole = [label for label, members in sets.items() if len(members) > 1 and seen.issuperset(members)]
    trained = set(rng.choice(whole, int(len(whole) * combo_share), replace=False).tolist()) if whole else set()
    trained |= {label for label, members in sets.items() if len(members) == 1 and members[0] in seen}
    held = {label: seen_group(members, seen) for label, members in sets.items() if label not in trained}
    return sorted(trained), held


def assemble(
    labels: pd.Series,
    is_control: np.ndarray,
    test: dict[str, str],
    val: dict[str, str],
    control: list[float],
    seed: int,
) -> dict[str, np.ndarray]:
    """Positions by group from the part of each held-out perturbation; control cells are shared out by `control`."""
    groups: dict[str, np.ndarray] = {}
    for top, parts in ((keys.VAL, val), (keys.TEST, test)):
        part = labels.map(parts)
        groups[top] = np.flatnonzero(part.notna())
        groups |= {f"{top}/{name}": np.flatnonzero((part == name).to_numpy()) for name in sorted(set(parts.values()))}
    rows = np.flatnonzero(is_control)
    drawn = draw_share(np.zeros(len(rows), dtype=np.int64), control, 1, np.random.default_rng([seed, 1]))
    for number, top in ((1, keys.VAL), (2, keys.TEST)):
        groups[f"{top}/{CONTROL}"] = rows[drawn == number]
        groups[top] = np.concatenate([groups[top], rows[drawn == number]])
    held = np.isin(np.arange(len(labels)), np.concatenate([groups[keys.VAL], groups[keys.TEST]]))
    return groups | {keys.TRAIN: np.flatnonzero(~held)}


def describe_parts(train: list[str], test: dict[str, str], val: dict[str, str], seed: int) -> dict:
    """How many perturbations are where."""
    count = {f"test/{k}": v for k, v in pd.Series(test, dtype=object).value_counts().items()}
    count |= {f"val/{k}": v for k, v in pd.Series(val, dtype=object).value_counts().items()}
    return {"perturbations": {"train": len(train)} | {k: int(v) for k, v in count.items()}, "seed": seed}


@dataclass(kw_only=True)
class Gears:
    """GEARS `simulation`: parts `unseen_single`, `combo_seen0`, `combo_seen1`, `combo_seen2` and `control`.

    Validation repeats the same draw on the training perturbations only, with `val_gene_share`; parts of the test count the
    genes of training and validation as seen, as GEARS does, though methods are fitted on training alone. `seed` overrides the
    run's seed (GEARS' default split is 1); the draw is numpy's Generator, so the genes are not those of GEARS' files.
    """

    gene_share: Annotated[float, Field(gt=0, lt=1)] = 0.75
    combo_share: Annotated[float, Field(gt=0, lt=1)] = 0.75
    val_gene_share: Annotated[float, Field(gt=0, lt=1)] = 0.9
    control_val: Share = 0.1
    control_test: Share = 0.2
    seed: int | None = None

    def __call__(self, data: AnnData, columns: Columns, seed: int) -> Split:
        seed = seed if self.seed is None else self.seed
        labels, sets = perturbation_sets(data, columns, "gears")
        perturbed = {label: genes for label, genes in sets.items() if genes}
        train, test = gears_simulation(perturbed, self.gene_share, self.combo_share, seed)
        inner = {label: perturbed[label] for label in train}
        train, val = gears_simulation(inner, self.val_gene_share, self.val_gene_share, seed)
        groups = assemble(labels, control_cells(labels, sets), test, val, [self.control_val, self.control_test], seed)
        return make_split(groups, data.obs_names, "gears", describe_parts(train, test, val, seed))


@dataclass(kw_only=True)
class RandomPerturbations:
    """Whole perturbations at random, in parts by how many of their genes the training perturbations have."""

    val: Share = 0.1
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2
    control_val: Share = 0.1
    control_test: Share = 0.2

    def __call__(self, data: AnnData, columns: Columns, seed: int) -> Split:
        labels, sets = perturbation_sets(data, columns, "random_perturbations")
        perturbed = [label for label, genes in sets.items() if genes]
        if len(perturbed) < 2:
            raise UserError(
                f"split=random_perturbations shares out perturbations, but {columns.name} has {len(perturbed)}"
            )
        order = np.random.default_rng(seed).permutation(perturbed).tolist()
        n_test, n_val = max(1, round(len(order) * self.test)), int(len(order) * self.val)
        held, watched, train = order[:n_test], order[n_test : n_test + n_val], order[n_test + n_val :]
        if not train:
            raise UserError(
                f"split=random_perturbations: none of {len(order)} perturbations is left to train on; lower test or val"
            )
        seen = {gene for label in train for gene in sets[label]}
        test, val = ({label: seen_group(sets[label], seen) for label in part} for part in (held, watched))
        groups = assemble(labels, control_cells(labels, sets), test, val, [self.control_val, self.control_test], seed)
        return make_split(groups, data.obs_names, "random_perturbations", describe_parts(train, test, val, seed))


@dataclass(kw_only=True)
class AhlmannEltze:
    """All singles and half of the doubles train, the other doubles are the test (Ahlmann-Eltze et al. 2025)."""

    double_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    val: Share = 0.1
    control_val: Share = 0.1
    control_test: Share = 0.2

    def __call__(self, data: AnnData, columns: Columns, seed: int) -> Split:
        labels, sets = perturbation_sets(data, columns, "ahlmann_eltze")
        doubles = [label for label, genes in sets.items() if len(genes) > 1]
        if len(doubles) < 2:
            raise UserError(
                f"split=ahlmann_eltze holds out half of the double perturbations, but {columns.name} has "
                f"{len(doubles)}; use split=gears or split=random_perturbations"
            )
        order = np.random.default_rng(seed).permutation(doubles).tolist()
        trained = order[: int(len(order) * self.double_share)]
        watched = trained[: max(1, int(len(trained) * self.val))] if self.val and len(trained) > 1 else []
        single = {genes[0] for genes in sets.values() if len(genes) == 1}
        test = {label: seen_group(sets[label], single) for label in order[len(trained) :]}
        val = {label: seen_group(sets[label], single) for label in watched}
        train = [label for label, genes in sets.items() if genes and label not in test and label not in val]
        groups = assemble(labels, control_cells(labels, sets), test, val, [self.control_val, self.control_test], seed)
        return make_split(groups, data.obs_names, "ahlmann_eltze", describe_parts(train, test, val, seed))
