"""Response of a cell type that was never treated: a regression over cell types, four closed-form predictors averaged.

Notation: training types t = 1..T with control means C (T, G), treated means S (T, G), variances of their cells, numbers of
cells n (T, 2); x (G,) the mean of the control cells given; r_t = corr(C_t, x). All in log1p space but for `rate_process`.
The prediction is the mean of the predictors, cut off so that no mean falls below zero. The constants were found on the Kang
cells (docs/response.md), so results on those cells are not independent of them.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from anndata import AnnData
from pydantic import PositiveFloat

from scsave.baselines.base import Learned
from scsave.baselines.levels import Levels, Pairs, correlation
from scsave.baselines.scales import Scale
from scsave.data.splits.split import Split
from scsave.data.targets import Targets
from scsave.errors import UserError
from scsave.keys import Columns
from scsave.stats.agreement import pearson
from scsave.stats.expected import FEWEST, expected_accuracy
from scsave.stats.moments import mean_expression

PREDICTORS = ("line", "process", "relative_process", "rate_process")
SMALL = 0.02  # added to a mean that is divided by: half a percent of the cells with one molecule
SMALLEST_CHANGE, SMALLEST_RELATIVE = 1e-5, 1e-3  # mean squares of a gene that does not respond: they are divided by
SMALLEST_VARIANCE = 1e-5  # of a relative change: a gene that no cell shows has none
RATES = Scale(0.01)


@dataclass(kw_only=True)
class TypeProcess(Learned, Levels):
    """The mean of `line`, `process`, `relative_process` and `rate_process`; `experts` names those in use.

    `shared`, `by_level`, `by_profile` and `noise` are variances of the process over types, for changes of unit mean square:
    of what all types share, of the slope in the gene's own control mean, of what types of like profile share, and of what
    a mean change has beside its sampling error. `relative_...` are those of relative changes.
    """

    experts: list[str] = field(default_factory=lambda: list(PREDICTORS))
    temperature: PositiveFloat = 0.05
    shrinkage: PositiveFloat = 0.1
    profile_scale: PositiveFloat = 0.2
    shared: PositiveFloat = 0.1
    by_level: PositiveFloat = 0.15
    by_profile: PositiveFloat = 0.12
    noise: PositiveFloat = 0.005
    relative_shared: PositiveFloat = 0.3
    relative_by_profile: PositiveFloat = 0.3
    relative_noise: PositiveFloat = 0.05
    relative_temperature: PositiveFloat = 0.15
    relative_range: list[float] = field(default_factory=lambda: [-1.0, 2.0])
    carry: bool = True
    name: str = "type_process"
    plain = ("key", "control", "type_key", "genes", "of_genes", "type_of_group", "level_of_group", "further")
    arrays = ("n", "mean", "variance")

    def __post_init__(self) -> None:
        if not self.experts or (unknown := sorted(set(self.experts) - set(PREDICTORS))):
            named = ", ".join(unknown) if self.experts else "none"
            raise UserError(f"method.experts: {named}; it takes one or more of {', '.join(PREDICTORS)}")

    # --- learning ---
    def fit(self, data: AnnData, split: Split, columns: Columns, seed: int, options: Any = None) -> None:
        """Moments of every (cell type, level) of the training cells. There is nothing else to learn."""
        super().fit(data, split, columns, seed, options)
        self._closed_form(self.n.size + self.mean.size + self.variance.size, len(split.train))

    def state(self) -> dict[str, Any]:
        return super().state() | {"targets": self.targets and self.targets.to_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.targets = Targets.from_dict(state["targets"]) if state["targets"] else None

    # --- prediction ---
    def change_of(self, cells: AnnData, target: str) -> np.ndarray:
        """As `Response.change_of`, from whatever one level the cells have. UserError where no type shows both levels."""
        start = list(cells.obs[self.key].astype(str).unique()) if self.key in cells.obs else [self.control]
        if len(start) != 1 or start[0] not in self.level_of_group:
            raise UserError(f"control cells: {self.key} is {', '.join(start)}; one training level is expected")
        if start[0] == target:
            raise UserError(f"method={self.name}: the cells are already under {self.key}={target}; name another level")
        return self.of_profile(mean_expression(cells), self.pairs(target, start[0]))

    def trust(self, control: AnnData | None, target: str, route: str | None = None) -> dict[str, float] | None:
        """From each training type left out: its change predicted from the others. Distances are 1 - correlation of control
        means with that of the nearest type."""
        pairs, found = self.pairs(target), {}
        r = correlation(pairs.control, pairs.control) - 2 * np.eye(len(pairs))
        for k, name in enumerate(pairs.types if len(pairs) >= FEWEST else []):
            score = pearson(pairs.change[k], self.of_profile(pairs.control[k], pairs.without(k)))
            found[name] = {"pcc": score, "distance": 1 - float(r[k].max())}
        own = None if control is None else 1 - float(correlation(pairs.control, mean_expression(control)[None]).max())
        return expected_accuracy(found, own)

    def without(self, held: set[str], target: str) -> dict[str, np.ndarray]:
        """Change, (G,), of each of the `held` types that shows the target, predicted from the types that are not held."""
        pairs = self.pairs(target)
        rest = pairs.at(np.array([k for k, name in enumerate(pairs.types) if name not in held], dtype=int))
        if not len(rest):
            return {}
        asked = [k for k, name in enumerate(pairs.types) if name in held]
        return {pairs.types[k]: self.of_profile(pairs.control[k], rest) for k in asked}

    def pairs(self, target: str, start: str | None = None, at_least: int = 2) -> Pairs:
        """As `Levels.pairs`, sorted by type; a type needs two cells a level, since one has no variance."""
        found = super().pairs(target, start, at_least)
        return found.at(np.argsort(found.types))

    def of_profile(self, x: np.ndarray, pairs: Pairs) -> np.ndarray:
        """Predicted change, (G,), of a group whose control mean is `x` (G,)."""
        change = np.mean([getattr(self, expert)(x, pairs) for expert in self.experts], axis=0)
        return np.maximum(change, -x)

    def line(self, x: np.ndarray, pairs: Pairs) -> np.ndarray:
        """Genes that rise: a line in the control mean, its slope shrunk to 1. Genes that fall: one fold change."""
        w = self._near(x, pairs, self.temperature)
        c, s = w @ pairs.control, w @ pairs.treated  # (G,)
        around = pairs.control - c  # (T, G)
        k = self.shrinkage
        slope = (w @ (around * (pairs.treated - s)) + k) / (w @ around**2 + k)
        fold = (s - c) * (x + SMALL) / (np.maximum(c, 0) + SMALL)
        return np.where((s < c) & (c > 0), fold, s + slope * (x - c) - x)

    def process(self, x: np.ndarray, pairs: Pairs) -> np.ndarray:
        """A Gaussian process over types for each gene: constant + linear in the gene's control mean + profile kernel.

        The control mean is clipped to the range of the training types: a linear kernel must not extrapolate.
        """
        return self._process(x, pairs, *self._profile_kernel(x, pairs))

    def rate_process(self, x: np.ndarray, pairs: Pairs) -> np.ndarray:
        """The same on log rates: ratios carry over between types whose levels differ, differences do not."""
        effect = self._process(RATES.level(x), pairs.on(RATES), *self._profile_kernel(x, pairs))
        return RATES.back(effect, x)

    def _process(self, x: np.ndarray, pairs: Pairs, profile: np.ndarray, own: np.ndarray) -> np.ndarray:
        scale = np.sqrt(np.maximum((pairs.change**2).mean(axis=0), SMALLEST_CHANGE))  # (G,)
        centre = pairs.control.mean(axis=0)
        seen = (pairs.control - centre) / scale  # (T, G)
        asked = np.clip((x - centre) / scale, seen.min(axis=0), seen.max(axis=0))  # (G,)
        kernel = (
            self.shared + self.by_level * np.einsum("tg,ug->gtu", seen, seen) + self.by_profile * profile
        )  # (G, T, T)
        cross = self.shared + self.by_level * (seen * asked).T + self.by_profile * own  # (G, T)
        return scale * posterior_mean(kernel, cross, (pairs.change / scale).T, (pairs.noise / scale**2).T + self.noise)

    def relative_process(self, x: np.ndarray, pairs: Pairs) -> np.ndarray:
        """As `process`, but for genes that fall the relative change is modelled, with the profile kernel alone."""
        shared, by_profile = self.relative_shared, self.relative_by_profile
        falls = self._near(x, pairs, self.relative_temperature) @ pairs.change < 0
        base = np.maximum(pairs.control, 0) + SMALL
        relative = np.clip(pairs.change / base, *self.relative_range)  # (T, G)
        error = (pairs.noise + SMALLEST_VARIANCE) / base**2
        scale = np.maximum((relative**2 / error).sum(axis=0) / (1 / error).sum(axis=0), SMALLEST_RELATIVE)  # (G,)
        profile, own = self._profile_kernel(x, pairs)
        kernel = np.broadcast_to(shared + by_profile * profile, (len(scale), *profile.shape))
        cross = np.broadcast_to(shared + by_profile * own, (len(scale), len(own)))
        root = np.sqrt(scale)
        p = root * posterior_mean(kernel, cross, (relative / root).T, (error / scale).T + self.relative_noise)
        return np.where(falls, np.clip(p, -1, 1) * (x + SMALL), self.process(x, pairs))

    def _near(self, x: np.ndarray, pairs: Pairs, temperature: float) -> np.ndarray:
        return pairs.weights(x, temperature, np.minimum(pairs.n_control, pairs.n_treated))

    def _profile_kernel(self, x: np.ndarray, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
        """`exp(-(1 - r) / profile_scale)` between training types, (T, T), and from them to x, (T,)."""
        between, own = correlation(pairs.control, pairs.control), correlation(pairs.control, x[None])[:, 0]
        return np.exp(-(1 - between) / self.profile_scale), np.exp(-(1 - own) / self.profile_scale)


def posterior_mean(kernel: np.ndarray, cross: np.ndarray, y: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """`k* (K + diag(noise))^-1 y` of each gene: kernel (G, T, T), the others (G, T); returns (G,)."""
    diagonal = np.eye(kernel.shape[1]) * noise[:, :, None]
    weights = np.linalg.solve(kernel + diagonal, y[..., None])[..., 0]  # (G, T)
    return (cross * weights).sum(axis=1)
