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
from scsave.baselines.scales import SCALES
from scsave.baselines.set_process.process import START, Process
from scsave.data import stored_control
from scsave.data.perturbations import SEPARATOR, parse
from scsave.errors import UserError
from scsave.genes.space import Missing, TextSpace
from scsave.keys import Columns
from scsave.stats.agreement import pearson
from scsave.stats.expected import expected_accuracy

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
        is_control = (train.obs[self.key].astype(str) == self.control).to_numpy()
        self.control_cells = stored_control.drawn(train, is_control, seed)
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

    def trust(self, control: AnnData | None, target: str, route: str | None = None) -> dict[str, float] | None:
        """From training sets left out in closed form: each by itself, or where a gene of the target is new each gene with all
        its sets; distances are of the means of gene vectors, from the nearest set that is left."""
        genes = parse(target, self.control)
        return expected_accuracy(*self._held_out(genes, bool(set(genes) - set(self.seen))))

    def without(self, held: set[str], target: str) -> dict[str, np.ndarray]:
        """Change, (G,), of the set `target`, predicted without the `held` sets (canonical labels), one of which it is."""
        names = [SEPARATOR.join(genes) for genes in self.sets]
        rows = np.array([p for p, name in enumerate(names) if name in held], dtype=int)
        if target not in names or not 0 < len(rows) < len(names):
            return {}
        covariance = self.covariance(self.sets, self.sets) + np.diag(self._noise(self.chosen))
        (off,) = self._off(covariance, [rows])
        return {target: (self.changes[rows] + off)[rows.tolist().index(names.index(target))]}

    def _held_out(self, asked: tuple[str, ...], new: bool) -> tuple[dict[str, dict[str, float]], float | None]:
        """`trust` of `expected_accuracy`, and the distance of the set `asked` from training's."""
        rows = list(self._of_gene().values()) if new else [np.array([p]) for p in range(len(self.sets))]
        rows = [block for block in rows if len(block) < len(self.sets)]
        if not rows or not asked:
            return {}, None
        at = np.array([self.space.place(list(genes)).mean(axis=0) for genes in self.sets])  # (P, q)
        apart = np.linalg.norm(at[:, None] - at[None], axis=-1)
        covariance = self.covariance(self.sets, self.sets) + np.diag(self._noise(self.chosen))
        found: dict[str, dict[str, float]] = {}
        for block, off in zip(rows, self._off(covariance, rows), strict=True):
            for p, error in zip(block, off, strict=True):
                score = pearson(self.changes[p], self.changes[p] + error)
                one = {"pcc": score, "distance": float(np.delete(apart[p], block).min())}
                found[SEPARATOR.join(self.sets[p])] = one  # of a set of several genes, as without the last of them
        own = np.linalg.norm(at - self.space.place(list(asked)).mean(axis=0), axis=-1)
        own = own[[genes != asked for genes in self.sets]]
        return {name: one for name, one in found.items() if name != SEPARATOR.join(asked)}, float(own.min())

    # --- files ---
    def state(self) -> dict[str, Any]:
        """Everything learned, and some control cells to predict from, as plain types and tensors."""
        import torch

        return super().state() | {
            "axes": None if self.axes is None else torch.from_numpy(self.axes.copy()),
            "sets": [list(genes) for genes in self.sets],
            "space": self.space.state(),
            "control_cells": stored_control.packed(self.control_cells),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.axes = None if state["axes"] is None else state["axes"].numpy()
        self.effects = SCALES[self.scale_name].to(self.changes, self.base)
        self.sets = [tuple(genes) for genes in state["sets"]]
        self.space.load_state(state["space"])
        self.control_cells = stored_control.unpacked(state["control_cells"], self.genes)
