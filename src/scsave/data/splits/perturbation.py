"""Splits of genetic perturbations: what was never perturbed in training, and how much of a pair was."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
from anndata import AnnData
from pydantic import NonNegativeInt

from scsave import keys
from scsave.data.perturbations import parse
from scsave.data.splits.split import Split, make_split
from scsave.data.splits.strata import draw_share
from scsave.data.splits.strategies import PositiveShare, Share
from scsave.errors import UserError
from scsave.keys import Columns

CONTROL = "control"  # the part of each group that holds its control cells
Sets = dict[str, tuple[str, ...]]  # the genes of each perturbation
Parts = dict[str, str]  # the part of each held-out perturbation


def perturbation_sets(data: AnnData, columns: Columns, split: str) -> tuple[pd.Series, Sets]:
    """The perturbation of each cell and the genes of each perturbation (control: none)."""
    if columns.perturbation is None or columns.control is None:
        raise UserError(f"split={split} needs data.perturbation_key and data.control; {columns.name} has none")
    labels = data.obs[columns.perturbation].astype(str)
    return labels, {label: parse(label, columns.control) for label in sorted(labels.unique())}


def seen_group(genes: tuple[str, ...], seen: set[str]) -> str:
    """`unseen_single` or `combo_seen<k>`: k of the genes of the set were perturbed in training."""
    known = sum(gene in seen for gene in genes)
    return ("seen_single" if known else "unseen_single") if len(genes) == 1 else f"combo_seen{known}"


def gears_simulation(sets: Sets, gene_share: float, combo_share: float, seed: int) -> tuple[list[str], Parts]:
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


@dataclass(kw_only=True)
class PerturbationSplit:
    """Whole perturbations held out, in parts named after what training saw of them; control cells are shared out."""

    control_val: Share = 0.1
    control_test: Share = 0.2
    name: ClassVar[str]

    def parts(self, sets: Sets, seed: int, data: str) -> tuple[Parts, Parts]:
        """Parts of the tested and of the validation perturbations among `sets`, those of the data set called `data`."""
        raise NotImplementedError

    def __call__(self, data: AnnData, columns: Columns, seed: int) -> Split:
        labels, sets = perturbation_sets(data, columns, self.name)
        perturbed = {label: genes for label, genes in sets.items() if genes}
        held = dict(zip((keys.TEST, keys.VAL), self.parts(perturbed, seed, columns.name), strict=True))
        groups: dict[str, np.ndarray] = {}
        control = np.flatnonzero(~labels.isin(perturbed).to_numpy())
        shares = [self.control_val, self.control_test]
        drawn = draw_share(np.zeros(len(control), dtype=np.int64), shares, 1, np.random.default_rng([seed, 1]))
        for number, top in ((1, keys.VAL), (2, keys.TEST)):
            part = labels.map(held[top])
            groups[f"{top}/{CONTROL}"] = control[drawn == number]
            groups[top] = np.concatenate([np.flatnonzero(part.notna()), control[drawn == number]])
            for name in sorted(set(held[top].values())):
                groups[f"{top}/{name}"] = np.flatnonzero((part == name).to_numpy())
        rest = np.isin(np.arange(len(labels)), np.concatenate([groups[keys.VAL], groups[keys.TEST]]), invert=True)
        counts = {keys.TRAIN: len(perturbed) - len(held[keys.TEST]) - len(held[keys.VAL])}
        for top, parts in held.items():
            counts |= {f"{top}/{k}": int(n) for k, n in pd.Series(parts, dtype=object).value_counts().items()}
        info = {"perturbations": counts, "seed": seed}
        return make_split(groups | {keys.TRAIN: np.flatnonzero(rest)}, data.obs_names, self.name, info)


@dataclass(kw_only=True)
class Gears(PerturbationSplit):
    """GEARS `simulation`: parts `unseen_single`, `combo_seen0`, `combo_seen1`, `combo_seen2` and `control`.

    Validation repeats the same draw on the training perturbations only, with `val_gene_share`; parts of the test count the
    genes of training and validation as seen, as GEARS does, though methods are fitted on training alone. `seed` overrides the
    run's seed (GEARS' default split is 1); the draw is numpy's Generator, so the genes are not those of GEARS' files.
    """

    gene_share: PositiveShare = 0.75
    combo_share: PositiveShare = 0.75
    val_gene_share: PositiveShare = 0.9
    seed: NonNegativeInt | None = None
    name: ClassVar[str] = "gears"

    def __call__(self, data: AnnData, columns: Columns, seed: int) -> Split:
        return super().__call__(data, columns, seed if self.seed is None else self.seed)

    def parts(self, sets: Sets, seed: int, data: str) -> tuple[Parts, Parts]:
        train, test = gears_simulation(sets, self.gene_share, self.combo_share, seed)
        inner = {label: sets[label] for label in train}
        return test, gears_simulation(inner, self.val_gene_share, self.val_gene_share, seed)[1]


@dataclass(kw_only=True)
class RandomPerturbations(PerturbationSplit):
    """Whole perturbations at random, in parts by how many of their genes the training perturbations have."""

    val: Share = 0.1
    test: PositiveShare = 0.2
    name: ClassVar[str] = "random_perturbations"

    def parts(self, sets: Sets, seed: int, data: str) -> tuple[Parts, Parts]:
        if len(sets) < 2:
            raise UserError(f"split={self.name} shares out perturbations, but {data} has {len(sets)}")
        order = np.random.default_rng(seed).permutation(list(sets)).tolist()
        n_test, n_val = max(1, round(len(order) * self.test)), int(len(order) * self.val)
        held, watched, train = order[:n_test], order[n_test : n_test + n_val], order[n_test + n_val :]
        if not train:
            none = f"none of {len(order)} perturbations"
            raise UserError(f"split={self.name}: {none} is left to train on; lower test or val")
        seen = {gene for label in train for gene in sets[label]}
        test, val = ({label: seen_group(sets[label], seen) for label in part} for part in (held, watched))
        return test, val


@dataclass(kw_only=True)
class AhlmannEltze(PerturbationSplit):
    """All singles and half of the doubles train, the other doubles are the test (Ahlmann-Eltze et al. 2025)."""

    double_share: PositiveShare = 0.5
    val: Share = 0.1
    name: ClassVar[str] = "ahlmann_eltze"

    def parts(self, sets: Sets, seed: int, data: str) -> tuple[Parts, Parts]:
        doubles = [label for label, genes in sets.items() if len(genes) > 1]
        if len(doubles) < 2:
            raise UserError(
                f"split={self.name} holds out half of the double perturbations, but {data} has {len(doubles)}; "
                "use split=gears or split=random_perturbations"
            )
        order = np.random.default_rng(seed).permutation(doubles).tolist()
        trained = order[: int(len(order) * self.double_share)]
        watched = trained[: max(1, int(len(trained) * self.val))] if self.val and len(trained) > 1 else []
        single = {genes[0] for genes in sets.values() if len(genes) == 1}
        test = {label: seen_group(sets[label], single) for label in order[len(trained) :]}
        return test, {label: seen_group(sets[label], single) for label in watched}


@dataclass(kw_only=True)
class LeavePerturbation(PerturbationSplit):
    """All cells of one genetic perturbation held out, and a share of the control cells."""

    label: str
    name: ClassVar[str] = "leave_perturbation"

    def parts(self, sets: Sets, seed: int, data: str) -> tuple[Parts, Parts]:
        seen = {gene for label, genes in sets.items() if label != self.label for gene in genes}
        return {self.label: seen_group(sets[self.label], seen)}, {}
