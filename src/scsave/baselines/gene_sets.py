"""How will cells answer a perturbation of genes never perturbed, or never together? A Gaussian process over sets of genes.

The process (`set_process.py`) learns from the mean changes of the training perturbations; here they are taken from cells,
and what it predicts is told of control cells: with what a perturbation does to its own gene, and with control means that
few cells tell badly pooled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from anndata import AnnData
from pydantic import Field

from scsave.baselines.pooling import to_pooled
from scsave.baselines.set_kernel import Sets
from scsave.baselines.set_process import START, SetProcess
from scsave.baselines.text_space import TextSpace
from scsave.data.perturbations import canonical, parse
from scsave.errors import UserError
from scsave.keys import Columns
from scsave.stats.moments import group_moments


@dataclass(kw_only=True)
class GeneSetResponse(SetProcess):
    """The process above, its options those of `SetProcess`. With `text=False` no network is told a vector either.

    A perturbed gene without a vector is an error, or with `missing=mean` sits at the average vector and is counted.
    """

    vectors: Any
    n_text: Annotated[int, Field(gt=0)] = 20
    missing: Literal["error", "mean"] = "error"

    def __post_init__(self) -> None:
        self.weights = self.weights or {}
        self.space = TextSpace(self.vectors, self.n_text, self.missing, self.text)
        if unknown := sorted(set(self.weights) - set(START)):
            raise UserError(f"response.genes.weights: {', '.join(unknown)}; it takes {', '.join(START)}")

    # --- learning ---
    def fit(self, train: AnnData, columns: Columns, seed: int) -> None:
        """Changes of the training perturbations from training control cells; raises UserError where there is neither."""
        self.key, self.control, self.organism = columns.perturbation, columns.control, columns.organism
        labels = train.obs[self.key].astype(str)
        names = {level: canonical(level, self.control) for level in labels.unique()}
        labels = labels.map(names)
        levels = sorted(labels.unique())
        if self.control not in levels:
            raise UserError(f"no training cell is control ({self.key}={self.control}); levels: {', '.join(levels[:8])}")
        at = levels.index(self.control)
        found = group_moments(train.X, labels.map(levels.index).to_numpy(), len(levels))
        keep = np.arange(len(levels)) != at
        self.sets: Sets = [parse(level, self.control) for level in levels if level != self.control]
        if not self.sets:
            raise UserError(
                f"training has control cells only: no perturbed cells in {self.key}; there must be perturbations left to learn "
                "from: hold out one (task.hold_out=<perturbation>)"
            )
        n = np.asarray(found.n, dtype=np.float64)[:, None]
        self.genes = list(train.var_names)
        self.base, self.base_variance, self.n_base = found.mean[at], found.variance[at], int(n[at, 0])  # (G,), (G,)
        self.changes = found.mean[keep] - found.mean[at]  # (P, G)
        self.variance = found.variance[keep] / np.maximum(n[keep], 1) + found.variance[at] / n[at]  # (P, G) of a change
        # one cell has no variance of its own
        single = n[keep, 0] < 2
        self.variance[single] = np.maximum(found.variance[at], self.variance[~single].max(axis=0, initial=0))
        self.seen = sorted({gene for genes in self.sets for gene in genes})
        self.space.learn(train, self.seen, self.organism)
        self.learn()
        self._learn_own()

    def _learn_own(self) -> None:
        """What a perturbation does to its own gene: a mean change or a mean relative change, whichever varies less."""
        place = {gene: at for at, gene in enumerate(self.genes)}
        at = [(p, place[genes[0]]) for p, genes in enumerate(self.sets) if len(genes) == 1 and genes[0] in place]
        self.own = {"change": 0.0, "relative": 0.0}
        if len(at) < 3:
            return
        rows, columns = np.array(at).T
        own, base = self.changes[rows, columns], self.base[columns]
        relative = float((own * base).sum() / max((base**2).sum(), 1e-12))
        if ((own - relative * base) ** 2).sum() < ((own - own.mean()) ** 2).sum():
            self.own["relative"] = relative
        else:
            self.own["change"] = float(own.mean())

    # --- prediction ---
    def change(self, control: AnnData | None, target: str) -> np.ndarray:
        """Predicted change, (G,), of the mean of the cells of `control` under the perturbation `target`.

        None stands for the training control cells.
        """
        genes = parse(target, self.control)
        if not genes:
            return np.zeros(len(self.genes))
        pooled = 0.0 if control is None else to_pooled(control, self.base, self.base_variance, self.n_base)
        return self.of_set(genes) + pooled

    def of_set(self, genes: tuple[str, ...]) -> np.ndarray:
        """Predicted change, (G,), of the perturbation of `genes`, a non-empty set."""
        found = self.changes_of([genes])[0]
        for gene in set(genes) - set(self.seen):
            if gene in self.genes:
                at = self.genes.index(gene)
                found[at] += self.own["change"] + self.own["relative"] * self.base[at]
        return found

    # --- files ---
    def state(self) -> dict[str, Any]:
        plain = (
            "on",
            "key",
            "control",
            "organism",
            "genes",
            "seen",
            "chosen",
            "own",
            "own_variance",
            "share",
            "unit",
            "left_out_error",
            "n_base",
        )
        arrays = ("base", "base_variance", "changes", "error", "solved")
        return {
            **{name: getattr(self, name) for name in plain},
            **{name: torch.from_numpy(np.ascontiguousarray(getattr(self, name))) for name in arrays},
            "axes": None if self.axes is None else torch.from_numpy(self.axes.copy()),
            "sets": [list(genes) for genes in self.sets],
            "space": self.space.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        # checkpoints from before there were scales, from before there was surplus
        state = {"on": "log1p", "axes": None, "own_variance": {}, "share": 0.0} | state
        self.space.restore(state.pop("space"))
        self.sets = [tuple(genes) for genes in state.pop("sets")]
        for name, value in state.items():
            setattr(self, name, value.numpy() if isinstance(value, torch.Tensor) else value)
