"""Response to perturbed genes never perturbed before, or never together: method `set_process`, a process over sets of genes.

The process (`process.py`) learns from the mean changes of the training perturbations and predicts those of other sets. Here
they are taken from cells, and the prediction gets what a perturbation does to its own gene, and control means that are
pooled with training's where few cells would give them a large error.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData
from pydantic import PositiveInt

from scsave.baselines.base import Learned
from scsave.baselines.gene_sets import GeneSets
from scsave.baselines.set_process.process import START, Process
from scsave.errors import UserError
from scsave.genes.space import Missing, TextSpace
from scsave.keys import Columns

FEWEST = 3  # single perturbations on the panel that the effect on the own gene is learned from


@dataclass(kw_only=True)
class SetProcess(Learned, Process, GeneSets):
    """The process over sets of genes as a method; its options are those of `Process`, and of how genes get vectors.

    `n_text` principal components of the vectors are used. A perturbed gene without a vector is an error, or with
    `missing=mean` lies at the average vector and is counted.
    """

    vectors: Any
    n_text: PositiveInt = 20
    missing: Missing = "error"
    carry: bool = True
    name: str = "set_process"
    plain = (
        "key", "control", "type_key", "genes", "seen", "n_base", "chosen", "own", "own_variance", "share", "unit",
        "scale_name", "left_out_error",
    )  # fmt: skip
    arrays = ("base", "base_variance", "changes", "error", "solved")

    def __post_init__(self) -> None:
        self.weights = self.weights or {}
        self.space = TextSpace(vectors=self.vectors, missing=self.missing, size=self.n_text, use_text=self.text)
        if unknown := sorted(set(self.weights) - set(START)):
            raise UserError(f"method.weights: {', '.join(unknown)}; it takes {', '.join(START)}")

    @property
    def info(self) -> dict[str, Any]:
        """What was chosen on the training perturbations, for results.json."""
        return {
            "response_weights": dict(self.chosen),
            "response_scale": self.scale_name,
            "response_surplus": self.share,
            "left_out_error": self.left_out_error,
        }

    @property
    def weighted(self) -> bool:
        """Did the vectors predict left-out perturbations, so that they carry weight?"""
        return any(self.chosen[name] for name in "abi")

    # --- learning ---
    def learn(self, train: AnnData, columns: Columns, seed: int) -> None:
        n = self.n[:, None]
        self.variance = self.set_variance / np.maximum(n, 1) + self.base_variance / self.n_base  # (P, G) of a change
        # one cell has no variance of its own
        single = self.n < 2
        self.variance[single] = np.maximum(self.base_variance, self.variance[~single].max(axis=0, initial=0))
        self.space.learn(train, self.seen, columns.organism)
        self.fit_changes()
        self._learn_own()
        arrays = [getattr(self, name) for name in self.arrays] + ([] if self.axes is None else [self.axes])
        self._closed_form(sum(array.size for array in arrays), train.n_obs)

    def _learn_own(self) -> None:
        """What a perturbation does to its own gene: a mean change or a mean relative change, whichever varies less."""
        place = {gene: at for at, gene in enumerate(self.genes)}
        at = [(p, place[genes[0]]) for p, genes in enumerate(self.sets) if len(genes) == 1 and genes[0] in place]
        self.own = {"change": 0.0, "relative": 0.0}
        if len(at) < FEWEST:
            return
        rows, columns = np.array(at).T
        own, base = self.changes[rows, columns], self.base[columns]
        relative = float((own * base).sum() / max((base**2).sum(), 1e-12))
        if ((own - relative * base) ** 2).sum() < ((own - own.mean()) ** 2).sum():
            self.own["relative"] = relative
        else:
            self.own["change"] = float(own.mean())

    # --- prediction ---
    def of_set(self, genes: tuple[str, ...]) -> np.ndarray:
        found = self.changes_of([genes])[0]
        for gene in set(genes) - set(self.seen):
            if gene in self.genes:
                at = self.genes.index(gene)
                found[at] += self.own["change"] + self.own["relative"] * self.base[at]
        return found

    # --- files ---
    def state(self) -> dict[str, Any]:
        """Everything learned, as plain types and tensors."""
        import torch

        return super().state() | {
            "axes": None if self.axes is None else torch.from_numpy(self.axes.copy()),
            "sets": [list(genes) for genes in self.sets],
            "space": self.space.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.axes = None if state["axes"] is None else state["axes"].numpy()
        self.sets = [tuple(genes) for genes in state["sets"]]
        self.space.load_state(state["space"])
