"""Scales on which effects of perturbations add up: log1p means, or logarithms of rates that may share one library size."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scale:
    """Changes of log1p means as changes of `log(expm1(mean) + floor)`, and back; `floor=inf` leaves them as they are.

    Two perturbations that multiply rates add up there. `closed`: on the way back all rates are scaled to the total of
    control, since normalised cells share 10^4 counts: when many genes rise, the others fall, by an amount that is not the
    sum of what either perturbation did to them.
    """

    floor: float = np.inf
    closed: bool = False

    def level(self, log1p: np.ndarray) -> np.ndarray:
        """Log rates, of any shape, for a finite floor."""
        return np.log(np.maximum(np.expm1(log1p), 0.0) + self.floor)

    def to(self, change: np.ndarray, base: np.ndarray) -> np.ndarray:
        """Changes (P, G) of log1p means from `base` (G,), on this scale."""
        return change if np.isinf(self.floor) else self.level(base + change) - self.level(base)

    def back(self, effect: np.ndarray, base: np.ndarray) -> np.ndarray:
        """The inverse of `to`, (P, G); with `closed` up to the total."""
        if np.isinf(self.floor):
            return effect
        rates = np.maximum(np.exp(np.minimum(self.level(base) + effect, 50.0)) - self.floor, 0.0)
        if self.closed:
            rates *= np.expm1(base).sum() / np.maximum(rates.sum(axis=-1, keepdims=True), 1e-12)
        return np.log1p(rates) - base

    def slope(self, base: np.ndarray) -> np.ndarray:
        """How much `to` stretches small changes, (G,)."""
        if np.isinf(self.floor):
            return np.ones_like(base)
        return np.exp(base) / (np.maximum(np.expm1(base), 0.0) + self.floor)


SCALES = {"log1p": Scale(), "rate": Scale(0.1), "share": Scale(0.1, closed=True)}
