"""How will a cell type that was never treated respond? Four closed-form experts on the means of the types that were.

Notation: training types t = 1..T with control means C (T, G), treated means S (T, G), variances of their cells, numbers of
cells n (T, 2); x (G,) the mean of the control cells asked about; r_t = corr(C_t, x). All in log1p space but for
`rate_process`. The prediction is the mean of the experts, cut off so that no mean falls below zero. They were found on the
Kang cells (docs/response.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from anndata import AnnData
from pydantic import Field

from scsave.baselines.rates import Scale
from scsave.errors import UserError
from scsave.keys import Columns
from scsave.stats.moments import group_moments, mean_expression

Positive = Annotated[float, Field(gt=0)]
SMALL = 0.02  # added to a mean that is divided by: half a percent of cells with one molecule
EVERY_CELL = "all cells"
RATES = Scale(0.01)


@dataclass(frozen=True)
class Types:
    """Means, variances (T, G) and numbers of cells (T,) of the training types, under control and under the target."""

    control: np.ndarray
    treated: np.ndarray
    control_variance: np.ndarray
    treated_variance: np.ndarray
    n_control: np.ndarray
    n_treated: np.ndarray

    @property
    def change(self) -> np.ndarray:
        return self.treated - self.control

    @property
    def noise(self) -> np.ndarray:
        """Sampling variance of `change`, (T, G)."""
        return self.control_variance / self.n_control[:, None] + self.treated_variance / self.n_treated[:, None]

    def on(self, scale: Scale) -> Types:
        """The same as log rates, variances to first order."""
        stretch = [scale.slope(mean) ** 2 for mean in (self.control, self.treated)]
        return Types(
            scale.level(self.control),
            scale.level(self.treated),
            self.control_variance * stretch[0],
            self.treated_variance * stretch[1],
            self.n_control,
            self.n_treated,
        )

    def similarity(self, x: np.ndarray) -> np.ndarray:
        """Pearson correlation of each control profile with x, (T,)."""
        return _correlation(self.control, x[None])[:, 0]

    def weights(self, x: np.ndarray, temperature: float) -> np.ndarray:
        """`exp((r - max r) / temperature) sqrt(n)`, adding to 1, (T,)."""
        r = self.similarity(x)
        w = np.exp((r - r.max()) / temperature) * np.sqrt(np.minimum(self.n_control, self.n_treated))
        return w / w.sum()


@dataclass(kw_only=True)
class LevelResponse:
    """The mean of `line`, `process`, `relative_process` and `rate_process`; `experts` names those in use."""

    experts: list[str] = field(default_factory=lambda: ["line", "process", "relative_process", "rate_process"])
    temperature: Positive = 0.05  # of the line's weights
    shrinkage: Positive = 0.1  # of the line's slope towards 1
    profile_scale: Positive = 0.2  # distance 1 - r over which types stop sharing a response
    known: ClassVar[tuple[str, ...]] = ("line", "process", "relative_process", "rate_process")

    def __post_init__(self) -> None:
        if not self.experts or (unknown := sorted(set(self.experts) - set(self.known))):
            named = ", ".join(unknown) if self.experts else "none"
            raise UserError(f"response.level.experts: {named}; it takes one or more of {', '.join(self.known)}")

    # --- learning ---
    def fit(self, train: AnnData, columns: Columns, seed: int) -> None:
        """Moments of every (cell type, level) of the training cells. There is nothing else to learn."""
        self.key, self.control, self.type_key = columns.perturbation, columns.control, columns.cell_type
        level = train.obs[self.key].astype(str)
        kind = train.obs[self.type_key].astype(str) if self.type_key else level.map(lambda _: EVERY_CELL)
        self.types, self.levels = sorted(kind.unique()), sorted(level.unique())
        if self.control not in self.levels:
            raise UserError(f"no training cell has {self.key}={self.control}; levels: {', '.join(self.levels)}")
        shape = (len(self.types), len(self.levels))
        codes = (kind.map(self.types.index) * shape[1] + level.map(self.levels.index)).to_numpy(np.int64)
        found = group_moments(train.X, codes, shape[0] * shape[1])
        self.n = np.asarray(found.n, dtype=np.float64).reshape(shape)  # (T, levels)
        self.mean, self.variance = (a.reshape(*shape, -1) for a in (found.mean, found.variance))  # (T, levels, G)

    def state(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in ("key", "control", "type_key", "types", "levels")}
        return plain | {name: torch.from_numpy(getattr(self, name).copy()) for name in ("n", "mean", "variance")}

    def restore(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value.numpy() if isinstance(value, torch.Tensor) else value)

    # --- prediction ---
    def change(self, control: AnnData, target: str) -> np.ndarray:
        """Predicted change, (G,), of the mean of the cells of `control`. UserError where no type shows the target."""
        start = control.obs[self.key].astype(str).unique() if self.key in control.obs else [self.control]
        if len(start) != 1 or start[0] not in self.levels:
            raise UserError(f"control cells: {self.key} is {', '.join(start)}; one training level is expected")
        return self.of_profile(mean_expression(control), self.paired(start[0], target))

    def paired(self, start: str, target: str) -> Types:
        """The training types that have cells under both levels."""
        if target not in self.levels or target == start:
            known = ", ".join(level for level in self.levels if level != start) or "none"
            raise UserError(f"no response to {self.key}={target} can be learned; training has beside {start}: {known}")
        a, b = self.levels.index(start), self.levels.index(target)
        both = (self.n[:, a] > 1) & (self.n[:, b] > 1)
        if not both.any():
            raise UserError(f"no training {self.type_key} has two cells under both {start} and {target}")
        parts = [m[both, level] for m in (self.mean, self.variance, self.n) for level in (a, b)]
        return Types(*parts)

    def of_profile(self, x: np.ndarray, types: Types) -> np.ndarray:
        """Predicted change, (G,), of a group whose control mean is `x` (G,)."""
        change = np.mean([getattr(self, expert)(x, types) for expert in self.experts], axis=0)
        return np.maximum(change, -x)

    def line(self, x: np.ndarray, types: Types) -> np.ndarray:
        """Genes that rise: a line in the control mean, its slope shrunk to 1. Genes that fall: one fold change."""
        w = types.weights(x, self.temperature)
        c, s = w @ types.control, w @ types.treated  # (G,)
        around = types.control - c  # (T, G)
        k = self.shrinkage
        slope = (w @ (around * (types.treated - s)) + k) / (w @ around**2 + k)
        fold = (s - c) * (x + SMALL) / (np.maximum(c, 0) + SMALL)
        return np.where((s < c) & (c > 0), fold, s + slope * (x - c) - x)

    def process(self, x: np.ndarray, types: Types) -> np.ndarray:
        """A Gaussian process over types for each gene: constant + linear in the gene's control mean + profile kernel.

        The control mean is clipped to what training types show: a linear kernel must not extrapolate.
        """
        return self._process(x, types, *self._profile_kernel(x, types))

    def rate_process(self, x: np.ndarray, types: Types) -> np.ndarray:
        """The same on log rates: ratios carry over between types whose levels differ, differences do not."""
        effect = self._process(RATES.level(x), types.on(RATES), *self._profile_kernel(x, types))
        return RATES.back(effect, x)

    def _process(self, x: np.ndarray, types: Types, profile: np.ndarray, own: np.ndarray) -> np.ndarray:
        scale = np.sqrt(np.maximum((types.change**2).mean(axis=0), 1e-5))  # (G,)
        centre = types.control.mean(axis=0)
        seen = (types.control - centre) / scale  # (T, G)
        asked = np.clip((x - centre) / scale, seen.min(axis=0), seen.max(axis=0))  # (G,)
        kernel = 0.1 + 0.15 * np.einsum("tg,ug->gtu", seen, seen) + 0.12 * profile  # (G, T, T)
        cross = 0.1 + 0.15 * (seen * asked).T + 0.12 * own  # (G, T)
        return scale * _posterior_mean(kernel, cross, (types.change / scale).T, (types.noise / scale**2).T + 0.005)

    def relative_process(self, x: np.ndarray, types: Types) -> np.ndarray:
        """As `process`, but for genes that fall the relative change is modelled, with the profile kernel alone."""
        falls = types.weights(x, 0.15) @ types.change < 0
        base = np.maximum(types.control, 0) + SMALL
        relative = np.clip(types.change / base, -1, 2)  # (T, G)
        error = (types.noise + 1e-5) / base**2
        scale = np.maximum((relative**2 / error).sum(axis=0) / (1 / error).sum(axis=0), 1e-3)  # (G,)
        profile, own = self._profile_kernel(x, types)
        kernel = np.broadcast_to(0.3 + 0.3 * profile, (len(scale), *profile.shape))
        cross = np.broadcast_to(0.3 + 0.3 * own, (len(scale), len(own)))
        root = np.sqrt(scale)
        p = root * _posterior_mean(kernel, cross, (relative / root).T, (error / scale).T + 0.05)
        return np.where(falls, np.clip(p, -1, 1) * (x + SMALL), self.process(x, types))

    def _profile_kernel(self, x: np.ndarray, types: Types) -> tuple[np.ndarray, np.ndarray]:
        """`exp(-(1 - r) / scale)` between training types, (T, T), and from them to x, (T,)."""
        between = _correlation(types.control, types.control)
        return np.exp(-(1 - between) / self.profile_scale), np.exp(-(1 - types.similarity(x)) / self.profile_scale)


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson correlation of the rows of a (n, G) and b (m, G): (n, m); 0 for a constant row."""
    a, b = (rows - rows.mean(axis=1, keepdims=True) for rows in (a, b))
    norms = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
    return np.divide(a @ b.T, norms, out=np.zeros_like(norms), where=norms > 0)


def _posterior_mean(kernel: np.ndarray, cross: np.ndarray, y: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """`k* (K + diag(noise))^-1 y` of each gene: kernel (G, T, T), the others (G, T); returns (G,)."""
    diagonal = np.eye(kernel.shape[1]) * noise[:, :, None]
    weights = np.linalg.solve(kernel + diagonal, y[..., None])[..., 0]  # (G, T)
    return (cross * weights).sum(axis=1)
