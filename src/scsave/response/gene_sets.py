"""How will cells answer a perturbation of genes never perturbed, or never together? A Gaussian process over sets of genes.

The change of a set is `sum of its genes' effects + sum of its pairs' interactions`, both unknown functions of what is
written about the genes. With `v` the text vectors in their principal components (unit total variance), for sets A and B

    k(A, B) = sum_{g in A, h in B} [c + a v_g.v_h + b exp(-|v_g - v_h|^2 / 2) + r 1(g = h)]
            + sum_{pairs p in A, q in B} [i (v_p1.v_q1 v_p2.v_q2 + v_p1.v_q2 v_p2.v_q1) + j 1(p = q)]

`c` is what all genes share (the perturbed mean), `a` and `b` what the texts tell, `r` what is a gene's own, `i` and `j`
interactions told by the texts and a pair's own. Without the second line the model is additive, and without noise it gives
back the additive prediction exactly. The noise of a perturbation is the sampling variance of its mean. Weights are chosen
on the training perturbations alone, by leaving out every perturbation, and every gene with all its sets, in closed form.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from anndata import AnnData
from pydantic import Field

from scsave.data.perturbations import canonical, parse
from scsave.data.source import DataSource
from scsave.errors import UserError
from scsave.metrics.differential import group_moments
from scsave.response.text_space import TextSpace

Sets = list[tuple[str, ...]]
WEIGHTS = ("c", "a", "b", "r", "i", "j")
GRID: dict[str, tuple[float, ...]] = {
    "c": (0.03, 0.1, 0.4, 1.0),  # never 0: an unseen gene without told effect would be predicted to do nothing at all
    "a": (0.0, 0.1, 0.4, 1.0, 3.0),
    "b": (0.0, 0.1, 0.4, 1.0),
    "r": (0.03, 0.1, 0.3, 1.0),
    "i": (0.0, 0.03, 0.1, 0.3, 1.0),
    "j": (0.0, 0.03, 0.1, 0.3),
    "noise": (0.5, 1.0, 2.0, 5.0, 15.0),
}
START = {"c": 0.4, "a": 0.4, "b": 0.1, "r": 0.3, "i": 0.03, "j": 0.1, "noise": 2.0}


@dataclass(kw_only=True)
class GeneSetResponse:
    """The process above. `weights` fixes some of them (c, a, b, r, i, j, noise); the others are chosen.

    `text=False` leaves `a`, `b` and `i` out, and no network is told a vector; `interactions=False` leaves `i` and `j` out:
    then it is additive.
    A perturbed gene without a vector is an error, or with `missing=mean` sits at the average vector and is counted.
    """

    vectors: Any
    n_text: Annotated[int, Field(gt=0)] = 20
    text: bool = True
    interactions: bool = True
    missing: Literal["error", "mean"] = "error"
    weights: dict[str, float] | None = None

    def __post_init__(self) -> None:
        self.weights = self.weights or {}
        self.space = TextSpace(self.vectors, self.n_text, self.missing, self.text)
        if unknown := sorted(set(self.weights) - set(START)):
            raise UserError(f"response.genes.weights: {', '.join(unknown)}; it takes {', '.join(START)}")

    # --- learning ---
    def fit(self, train: AnnData, source: DataSource, seed: int) -> None:
        """Changes of the training perturbations from training control cells; raises UserError where there is neither."""
        self.key, self.control, self.organism = source.perturbation_key, source.control, source.organism
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
            raise UserError(f"training has control cells only: no perturbed cells in {self.key}")
        n = np.asarray(found.n, dtype=np.float64)[:, None]
        self.genes = list(train.var_names)
        self.base, self.base_variance, self.n_base = found.mean[at], found.variance[at], int(n[at, 0])  # (G,), (G,)
        self.changes = found.mean[keep] - found.mean[at]  # (P, G)
        error = found.variance / np.maximum(n, 1)
        self.error = (error[keep] + error[at]).mean(axis=1)  # (P,) of one gene, on average
        # one cell has no variance of its own
        single = n[keep, 0] < 2
        self.error[single] = np.nanmax(np.append(self.error[~single], found.variance[at].mean()))
        self.seen = sorted({gene for genes in self.sets for gene in genes})
        self.space.learn(train, self.seen, self.organism)
        self._choose()
        self._learn_own()

    def _choose(self) -> None:
        """Coordinate descent over `GRID`; the unit of a weight is the mean squared change of a training perturbation."""
        self.chosen = START | {name: float(value) for name, value in self.weights.items()}
        off = set() if self.text else {"a", "b", "i"}
        off |= set() if self.interactions and any(len(genes) > 1 for genes in self.sets) else {"i", "j"}
        self.chosen |= dict.fromkeys(off, 0.0)
        self.unit = max(
            float((self.changes**2).mean()) - float(self.error.mean()), 0.05 * float((self.changes**2).mean()), 1e-12
        )
        parts = self.parts(self.sets, self.sets)
        blocks = self._blocks()
        free = [name for name in START if name not in off and name not in self.weights]
        best = self._left_out(parts, blocks, self.chosen)
        for _ in range(3):
            before = best
            for name in free if len(self.sets) > 2 else []:
                for value in GRID[name]:
                    loss = self._left_out(parts, blocks, self.chosen | {name: value})
                    if loss < best - 1e-12:
                        best, self.chosen = loss, self.chosen | {name: value}
            if best > before * (1 - 1e-4):
                break
        self.left_out_error = best
        kernel = self.combined(parts, self.chosen)
        self.solved = np.linalg.solve(kernel + np.diag(self._noise(self.chosen)), self.changes)  # (P, G)

    def _noise(self, weights: dict[str, float]) -> np.ndarray:
        return weights["noise"] * self.error / self.unit + 1e-6

    def _blocks(self) -> list[np.ndarray]:
        """What is left out together: every perturbation, and every gene with all its sets."""
        alone = [np.array([p]) for p in range(len(self.sets))]
        of_gene = [np.array([p for p, genes in enumerate(self.sets) if gene in genes]) for gene in self.seen]
        return alone + [rows for rows in of_gene if 1 < len(rows) < len(self.sets)]

    def _left_out(self, parts: dict[str, np.ndarray], blocks: list[np.ndarray], weights: dict[str, float]) -> float:
        """Share of the squared changes that leaving out misses, averaged over what is left out."""
        inverse = np.linalg.inv(self.combined(parts, weights) + np.diag(self._noise(weights)))
        solved, missed = inverse @ self.changes, []
        for rows in blocks:
            residual = np.linalg.solve(inverse[np.ix_(rows, rows)], solved[rows])
            missed.append((residual**2).sum() / len(rows))
        return float(np.mean(missed)) / float((self.changes**2).sum(axis=1).mean())

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

    # --- kernel ---
    def parts(self, a: Sets, b: Sets) -> dict[str, np.ndarray]:
        """The six terms of the kernel between two lists of sets, (|a|, |b|) each, before their weights."""
        genes = sorted({gene for genes in (*a, *b) for gene in genes})
        at = {gene: number for number, gene in enumerate(genes)}
        text = self.space.place(genes)  # (n, q)
        member_a, member_b = (self._members(sets, at) for sets in (a, b))
        linear = text @ text.T
        square = np.maximum((text**2).sum(1)[:, None] + (text**2).sum(1)[None] - 2 * linear, 0)
        near = {"c": np.ones_like(linear), "a": linear, "b": np.exp(-square / 2), "r": np.eye(len(genes))}
        out = {name: member_a @ term @ member_b.T for name, term in near.items()}
        pairs_a, pairs_b = (self._pairs(sets, at) for sets in (a, b))
        for name in ("i", "j"):
            out[name] = np.zeros((len(a), len(b)))
        if len(pairs_a[0]) and len(pairs_b[0]):
            (owner_a, p), (owner_b, q) = pairs_a, pairs_b
            told = linear[np.ix_(p[:, 0], q[:, 0])] * linear[np.ix_(p[:, 1], q[:, 1])]
            told += linear[np.ix_(p[:, 0], q[:, 1])] * linear[np.ix_(p[:, 1], q[:, 0])]
            same = (p[:, None] == q[None]).all(axis=-1).astype(float)
            for name, term in (("i", told), ("j", same)):
                np.add.at(out[name], (owner_a[:, None], owner_b[None]), term)
        return out

    @staticmethod
    def _members(sets: Sets, at: dict[str, int]) -> np.ndarray:
        out = np.zeros((len(sets), len(at)))
        for row, genes in enumerate(sets):
            out[row, [at[gene] for gene in genes]] = 1
        return out

    @staticmethod
    def _pairs(sets: Sets, at: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
        """Owner (m,) and genes (m, 2) of every unordered pair."""
        found = [
            (row, at[g], at[h]) for row, genes in enumerate(sets) for g, h in itertools.combinations(sorted(genes), 2)
        ]
        array = np.array(found, dtype=np.int64).reshape(-1, 3)
        return array[:, 0], array[:, 1:]

    @staticmethod
    def combined(parts: dict[str, np.ndarray], weights: dict[str, float]) -> np.ndarray:
        return sum(weights[name] * parts[name] for name in WEIGHTS)

    # --- prediction ---
    def change(self, control: AnnData | None, target: str) -> np.ndarray:
        """Predicted change, (G,), of the mean of the cells of `control` under the perturbation `target`.

        None stands for the training control cells.
        """
        genes = parse(target, self.control)
        if not genes:
            return np.zeros(len(self.genes))
        return self.of_set(genes) + (0.0 if control is None else self.to_pooled(control))

    def to_pooled(self, control: AnnData) -> np.ndarray:
        """From the mean of these control cells, (G,), to the one that they share with the training control cells.

        A few hundred cells tell their own mean with an error of the size of many effects. As far as the two means differ
        by no more than that error they are pooled; where they differ by more (James & Stein's factor), less so.
        """
        here = group_moments(control.X, np.zeros(control.n_obs, dtype=np.int64), 1).mean[0]
        apart = self.base - here
        expected = float((self.base_variance * (1 / control.n_obs + 1 / self.n_base)).sum())
        share = min(1.0, expected / max(float((apart**2).sum()), 1e-12))
        return share * apart * self.n_base / (self.n_base + control.n_obs)

    def of_set(self, genes: tuple[str, ...]) -> np.ndarray:
        """Predicted change, (G,), of the perturbation of `genes`, a non-empty set."""
        found = self.combined(self.parts([genes], self.sets), self.chosen)[0] @ self.solved
        for gene in set(genes) - set(self.seen):
            if gene in self.genes:
                at = self.genes.index(gene)
                found[at] += self.own["change"] + self.own["relative"] * self.base[at]
        return found

    # --- files ---
    def state(self) -> dict[str, Any]:
        plain = ("key", "control", "organism", "genes", "seen", "chosen", "own", "unit", "left_out_error", "n_base")
        arrays = ("base", "base_variance", "changes", "error", "solved")
        return {
            **{name: getattr(self, name) for name in plain},
            **{name: torch.from_numpy(np.ascontiguousarray(getattr(self, name))) for name in arrays},
            "sets": [list(genes) for genes in self.sets],
            "space": self.space.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        state = dict(state)
        self.space.restore(state.pop("space"))
        self.sets = [tuple(genes) for genes in state.pop("sets")]
        for name, value in state.items():
            setattr(self, name, value.numpy() if isinstance(value, torch.Tensor) else value)
