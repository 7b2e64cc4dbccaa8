"""One metric of the registry: space, formula, direction. Nothing heavy is imported, because tables read it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

NEUTRAL, CFGEN, CFGEN_LEGACY = "neutral", "cfgen", "cfgen_legacy"
PROTOCOLS = (NEUTRAL, CFGEN, CFGEN_LEGACY)  # what the PCA of generation is fitted on; the first is the headline


@dataclass(frozen=True)
class Metric:
    """One metric. `best` is "max", "min" or the value to be near to; `aggregate` says how the group `all` is made."""

    name: str
    label: str  # column head
    formula: str
    description: str
    task: str  # whose rows: what `Task.metrics` names
    space: str
    best: Literal["max", "min"] | float
    aggregate: Literal["mean", "pooled"]
    min_cells: int | None  # cells needed on each side for a value per group; None: never given per group
    version: int = 1
    cite: str = ""
    protocols: tuple[str, ...] = (NEUTRAL,)
    skilled: bool = True  # whether being better than a row without skill says anything

    @property
    def key(self) -> str:
        return f"{self.task}/{self.name}"

    @property
    def arrow(self) -> str:
        """The direction that is better: ↑, ↓ or → and the target."""
        if isinstance(self.best, str):
            return "↑" if self.best == "max" else "↓"
        return f"→{self.best:g}"

    def sort_key(self, value: float | None) -> float:
        """Ascending order of this key is best first; None and NaN come last."""
        if value is None or math.isnan(value):
            return math.inf
        if isinstance(self.best, str):
            return -value if self.best == "max" else value
        return abs(value - self.best)

    def better(self, a: float | None, b: float | None) -> bool:
        """Whether `a` is strictly better than `b`; a missing value is never better."""
        return self.sort_key(a) < self.sort_key(b)

    def ranked(self, values: Mapping[str, float | None]) -> list[str]:
        """Names of `values`, best first; equal values keep their order."""
        return sorted(values, key=lambda name: self.sort_key(values[name]))

    def dynamic_range(self, value: float, baseline: float, ceiling: float) -> float:
        """How far `value` is on the way from `baseline` (0) to `ceiling` (1), in the metric's own direction.

        NaN where the ceiling is no better than the baseline: there is nothing to reach.
        """
        start, end, here = (self.sort_key(one) for one in (baseline, ceiling, value))
        if not math.isfinite(start - end) or start - end < 1e-12:
            return math.nan
        return (start - here) / (start - end) if math.isfinite(here) else math.nan

    @property
    def footer(self) -> str:
        """One line for the foot of a table."""
        line = f"{self.label} {self.arrow}: {self.formula} [{self.space}; {self.aggregate}; v{self.version}]"
        return f"{line} {self.cite}".strip()
