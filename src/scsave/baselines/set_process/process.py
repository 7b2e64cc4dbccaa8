"""A Gaussian process over sets of genes: how its weights, its scale, its axes of interaction and its surplus are chosen.

The change of a set is `sum of its genes' effects + sum of its pairs' interactions`, both unknown functions of the genes'
vectors (kernel: `kernel.py`), on the scale where they add up best (`baselines/scales.py`). Without interactions and noise,
on the scale of log1p, it gives back the additive prediction exactly. The noise of a perturbation is the sampling variance
of its mean. Weights and scale are chosen on the training perturbations alone, by leaving out every perturbation, and every
gene with all its sets, in closed form; axes of interaction by leaving out pairs.

A few perturbations have large effects and most have small ones, and a squared error is decided by the few. So a gene may
have variance of its own effect beyond what all genes have (`surplus`: a share of the squared error of its left-out
prediction, estimated by iteratively reweighted least squares, as under heavy tails). A gene with a large effect of its own
then has less influence on the predictions of other genes.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from scsave.baselines.scales import SCALES
from scsave.baselines.set_process.kernel import Sets, combined, learn_axes, owned, pairs_of, parts

GRID: dict[str, tuple[float, ...]] = {  # of the kernel's weights, in units of the mean squared effect
    "c": (0.03, 0.1, 0.4, 1.0),  # never 0: an unseen gene without a predicted effect would be predicted to do nothing
    "a": (0.0, 0.1, 0.4, 1.0, 3.0),
    "b": (0.0, 0.1, 0.4, 1.0),
    "r": (0.03, 0.1, 0.3, 1.0),
    "i": (0.0, 0.03, 0.1, 0.3, 1.0),
    "j": (0.0, 0.03, 0.1, 0.3),
    "noise": (0.5, 1.0, 2.0, 5.0, 15.0),  # times the sampling variance of a mean
}
START = {"c": 0.4, "a": 0.4, "b": 0.1, "r": 0.3, "i": 0.03, "j": 0.1, "noise": 2.0}
DESCENTS = 3  # times that coordinate descent goes through the grid
RANK, PENALTIES = 4, (0.3, 1.0)  # of the axes of interaction (docs/genetic.md)
FEWEST_PAIRS, FOLDS = 10, 5  # pairs of genes that axes need, and parts of them that are left out in turn
STARTS, STARTS_A_FOLD = 8, 3  # random starts of the axes: of the final ones, and of those that a fold learns
GAIN = 0.02  # by which share of the error a richer choice has to be better than the plain one
REWEIGHTED, SHARES = 3, (0.1, 0.3, 1.0)  # times that surpluses are estimated; shares of them that are tried


@dataclass(kw_only=True)
class Process:
    """`weights` fixes some of them (c, a, b, r, i, j, noise), and leaves axes and surplus out; the others are chosen.

    `text=False` leaves `a`, `b` and `i` out; `interactions=False` leaves `i` and `j` out: then effects add up. `scale`: on
    which they do, `auto` chooses. `surplus`: the share of a gene's left-out squared error that counts as variance of its
    own effect, 0 to 1; `auto` chooses. A subclass sets, before `fit_changes`: `sets` and `seen` genes, `space` of their
    vectors, `base` (G,), `changes` and their sampling `variance`, (P, G) each.
    """

    text: bool = True
    interactions: bool = True
    weights: dict[str, float] | None = None
    scale: Literal["auto", "log1p", "rate", "share"] = "auto"
    surplus: Literal["auto"] | Annotated[float, Field(ge=0, le=1)] = "auto"

    def fit_changes(self) -> None:
        """Choose scale, weights, axes and surplus, then solve for the effects of the training perturbations."""
        self._choose_scale()
        self._learn_axes()
        self._learn_surplus()
        kernel = self.covariance(self.sets, self.sets)
        self.solved = np.linalg.solve(kernel + np.diag(self._noise(self.chosen)), self.effects)  # (P, G)

    def changes_of(self, sets: Sets) -> np.ndarray:
        """Predicted changes of log1p means from `base`, (|sets|, G)."""
        effects = self.covariance(sets, self.sets) @ self.solved
        return SCALES[self.scale_name].back(effects, self.base)

    def _choose_scale(self) -> None:
        """The scale whose left-out changes are missed by least; another one than log1p has to be better by `GAIN`."""
        tried = {}
        for name in SCALES if self.scale == "auto" else [self.scale]:
            self._set_scale(name)
            self._choose()
            tried[name] = (self.left_out_error, self.chosen)
        best = min(tried, key=lambda name: tried[name][0] * (1.0 if name == "log1p" else 1 + GAIN))
        self._set_scale(best)
        self.left_out_error, self.chosen = tried[best]

    def _set_scale(self, name: str) -> None:
        """Take effects, the variance of their sampling and the unit of weights on the scale `name`; axes come later.

        The unit is the mean squared effect of a training perturbation without its sampling.
        """
        self.scale_name, self.axes, self.own_variance, self.share = name, None, {}, 0.0
        self.effects = SCALES[name].to(self.changes, self.base)  # (P, G)
        self.error = (self.variance * SCALES[name].slope(self.base) ** 2).mean(axis=1)  # (P,) of one gene, on average
        square = float((self.effects**2).mean())
        self.unit = max(square - float(self.error.mean()), 0.05 * square, 1e-12)

    def kernel(self, a: Sets, b: Sets) -> dict[str, np.ndarray]:
        """Terms of the kernel between two lists of sets, (|a|, |b|) each."""
        return parts(a, b, self.space.place, self.axes)

    def covariance(self, a: Sets, b: Sets) -> np.ndarray:
        """Of two lists of sets, (|a|, |b|), before noise."""
        return combined(self.kernel(a, b), self.chosen) + owned(a, b, self.own_variance)

    def _choose(self) -> None:
        """Coordinate descent over `GRID`."""
        self.chosen = START | {name: float(value) for name, value in self.weights.items()}
        off = set() if self.text else {"a", "b", "i"}
        off |= set() if self.interactions and any(len(genes) > 1 for genes in self.sets) else {"i", "j"}
        self.chosen |= dict.fromkeys(off, 0.0)
        terms = self.kernel(self.sets, self.sets)
        blocks = self._blocks()
        free = [name for name in START if name not in off and name not in self.weights]
        best = self._left_out(terms, blocks, self.chosen)
        for _ in range(DESCENTS):
            before = best
            for name in free if len(self.sets) > 2 else []:
                for value in GRID[name]:
                    loss = self._left_out(terms, blocks, self.chosen | {name: value})
                    if loss < best - 1e-12:
                        best, self.chosen = loss, self.chosen | {name: value}
            if best > before * (1 - 1e-4):
                break
        self.left_out_error = best

    def _learn_axes(self) -> None:
        """Learned directions of interaction instead of all products, if they predict left-out pairs better."""
        pairs = np.array([p for p, genes in enumerate(self.sets) if len(genes) > 1])
        if self.weights or not self.text or not self.interactions or len(pairs) < FEWEST_PAIRS:
            return
        folds = np.array_split(np.random.default_rng(0).permutation(pairs), FOLDS)
        everything, plain = np.arange(len(self.sets)), self.chosen
        missed = {None: sum(self._missed(rows, self.chosen, None) for rows in folds)}
        for penalty in PENALTIES:
            missed[penalty] = 0.0
            for rows in folds:
                weights, axes = self._with_axes(np.setdiff1d(everything, rows), plain, penalty, STARTS_A_FOLD)
                missed[penalty] += self._missed(rows, weights, axes)
        best = min(missed, key=missed.get)
        if best is not None:
            self.chosen, self.axes = self._with_axes(everything, plain, best, STARTS)

    def _with_axes(self, rows: np.ndarray, weights: dict[str, float], penalty: float, starts: int) -> tuple:
        """Weights, by name, and axes (q, R) learned from the perturbations `rows`."""
        sets = [self.sets[p] for p in rows]
        terms = self.kernel(sets, sets)
        additive = combined(terms, weights | {"i": 0.0, "j": 0.0})
        effects = self.effects[rows]
        outer = effects @ effects.T / (self.unit * effects.shape[1])
        genes = sorted({gene for one in sets for gene in one})
        owner, pairs = pairs_of(sets, {gene: number for number, gene in enumerate(genes)})
        start = (max(weights["j"], 0.05), weights["noise"])
        text, error = self.space.place(genes), self.error[rows] / self.unit
        found = learn_axes(outer, additive, terms["j"], error, owner, pairs, text, start, RANK, penalty, starts)
        scaled = {name: weights[name] * found.factor for name in "cabr"}
        return weights | scaled | {"i": 1.0, "j": found.j, "noise": found.noise}, found.axes

    def _missed(self, rows: np.ndarray, weights: dict[str, float], axes: np.ndarray | None) -> float:
        """Squared error of the changes of perturbations `rows`, predicted from the others."""
        kernel = combined(parts(self.sets, self.sets, self.space.place, axes), weights)
        known = np.setdiff1d(np.arange(len(self.sets)), rows)
        inner = kernel[np.ix_(known, known)] + np.diag(self._noise(weights)[known])
        effect = kernel[np.ix_(rows, known)] @ np.linalg.solve(inner, self.effects[known])
        return float(((SCALES[self.scale_name].back(effect, self.base) - self.changes[rows]) ** 2).sum())

    def _learn_surplus(self) -> None:
        """Variance of a gene's own effect beyond `r`: a share of the mean squared error when all its sets are left out.

        The error is that of its single perturbation, or else of its smallest sets. `auto` takes the share with the least
        product of mean squared distance and squared mean distance of left-out changes, if it is less by `GAIN`: squares
        alone are decided by the few large effects, distances by the many small ones.
        """
        fixed = self.surplus == 0 or (self.surplus == "auto" and self.weights)
        if fixed or len(self.seen) <= 2:
            return
        plain, noise = combined(self.kernel(self.sets, self.sets), self.chosen), np.diag(self._noise(self.chosen))
        blocks, of_gene = self._blocks(), self._of_gene()

        def missing(own: dict[str, float]) -> float:
            """Of the distances between left-out changes and predicted ones: the mean square times the squared mean."""
            covariance = plain + owned(self.sets, self.sets, own) + noise
            far = [np.linalg.norm(off, axis=1) for off in self._off(covariance, blocks)]
            return float(np.mean([(one**2).mean() for one in far]) * np.mean([one.mean() for one in far]) ** 2)

        whole: dict[str, float] = {}
        for _ in range(REWEIGHTED):
            covariance = plain + owned(self.sets, self.sets, whole) + noise
            missed = left_out(covariance, self.effects, list(of_gene.values()))
            for (gene, rows), effect in zip(of_gene.items(), missed, strict=True):
                size = np.array([len(self.sets[p]) for p in rows])
                one = (effect**2).mean(axis=1) / size
                whole[gene] = float(one[size == size.min()].mean()) / self.unit
        if self.surplus == "auto":
            tried = {share: missing({gene: share * own for gene, own in whole.items()}) for share in SHARES}
            tried = {0.0: missing({}) * (1 - GAIN)} | tried
            self.share = min(tried, key=tried.get)
        else:
            self.share = float(self.surplus)
        self.own_variance = {gene: self.share * own for gene, own in whole.items()} if self.share else {}

    def _noise(self, weights: dict[str, float]) -> np.ndarray:
        return weights["noise"] * self.error / self.unit + 1e-6

    def _blocks(self) -> list[np.ndarray]:
        """What is left out together: every perturbation, and every gene with all its sets."""
        alone = [np.array([p]) for p in range(len(self.sets))]
        return alone + [rows for rows in self._of_gene().values() if 1 < len(rows) < len(self.sets)]

    def _of_gene(self) -> dict[str, np.ndarray]:
        """Of each gene, which sets have it."""
        return {gene: np.array([p for p, genes in enumerate(self.sets) if gene in genes]) for gene in self.seen}

    def _off(self, covariance: np.ndarray, blocks: list[np.ndarray]) -> list[np.ndarray]:
        """Error of the predicted changes of each block when it is left out, (rows, G) each."""
        scale, missed = SCALES[self.scale_name], left_out(covariance, self.effects, blocks)
        return [
            scale.back(self.effects[rows] - effect, self.base) - self.changes[rows]
            for rows, effect in zip(blocks, missed, strict=True)
        ]

    def _left_out(self, terms: dict[str, np.ndarray], blocks: list[np.ndarray], weights: dict[str, float]) -> float:
        """Squared error of left-out changes as a share of the squared changes, averaged over what is left out."""
        off = self._off(combined(terms, weights) + np.diag(self._noise(weights)), blocks)
        missed = [(one**2).sum() / len(one) for one in off]
        return float(np.mean(missed)) / float((self.changes**2).sum(axis=1).mean())


def left_out(covariance: np.ndarray, effects: np.ndarray, blocks: list[np.ndarray]) -> list[np.ndarray]:
    """Of each block of rows, the error of a process of this covariance (P, P) on `effects` (P, G) without them: (rows, G)."""
    inverse = np.linalg.inv(covariance)
    solved = inverse @ effects
    return [np.linalg.solve(inverse[np.ix_(rows, rows)], solved[rows]) for rows in blocks]
