"""What a table is: rows, columns, and cells that know the run behind each of their values."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from scsave.metrics.row import Metric
from scsave.results.collect import Result
from scsave.results.comparable import Bench
from scsave.results.paper import Reported

FLOOR, AGAIN, CEILING, NO_SKILL, REPORTED = "noise floor", "training cells again", "ceiling", "no skill", "the paper's"
ROLES = {
    "real": FLOOR,
    "train_resample": AGAIN,
    "ceiling": CEILING,
    "mean": NO_SKILL,
    "no_change": NO_SKILL,
    "pooled_control": NO_SKILL,
    "perturbed_mean": NO_SKILL,
    "unintegrated": NO_SKILL,
}
ORDER = ("", NO_SKILL, FLOOR, AGAIN, CEILING, REPORTED)  # from top to bottom
UNRANKED = (FLOOR, AGAIN, CEILING, REPORTED)


def band(of: str) -> int:
    """Rows of one band stand together, between two rules: what is ranked, what it is read against, the paper's."""
    return 2 if of == REPORTED else int(of in UNRANKED)


def role(row: str) -> str:
    """What a row is for; "" for a method. Variants of a row have its role."""
    return ROLES.get(row.split(" (")[0], "")


@dataclass(frozen=True, eq=False)
class Column:
    bench: Bench
    metric: Metric
    group: str
    protocol: str
    digits: int = 2


@dataclass
class Cell:
    """One row in one column: a value for each seed, and the run that each is from."""

    values: dict[int, float] = field(default_factory=dict)
    sources: dict[int, Result] = field(default_factory=dict)
    interval: tuple[float, float] | None = None  # bootstrap 95% interval of a single run
    rank: int | None = None  # 1 is best; None: not ranked
    paper: Reported | None = None

    @property
    def known(self) -> np.ndarray:
        return np.array([value for value in self.values.values() if math.isfinite(value)])

    @property
    def n(self) -> int:
        return len(self.known)

    @property
    def mean(self) -> float:
        return float(self.known.mean()) if self.n else float("nan")

    @property
    def sd(self) -> float:
        """Over seeds, n - 1 in the denominator; NaN for one seed."""
        return float(self.known.std(ddof=1)) if self.n > 1 else float("nan")


@dataclass
class Table:
    registry: str
    protocol: str
    columns: list[Column]
    rows: dict[str, str]  # label -> role, in order
    cells: dict[tuple[str, int], Cell]  # (row, number of the column)
    notes: list[str]

    def cell(self, row: str, column: int) -> Cell:
        return self.cells.get((row, column), Cell())

    def parts(self, widest: int = 10) -> list[list[int]]:
        """Numbers of columns that fit beside each other; those of one data set and group stand together."""
        parts: list[list[int]] = [[]]
        for _, group in groupby(range(len(self.columns)), key=self._place):
            block = list(group)
            if parts[-1] and len(parts[-1]) + len(block) > widest:
                parts.append([])
            parts[-1] += block
        cut = [part[at : at + widest] for part in parts for at in range(0, len(part), widest)]
        return [part for part in cut if part]

    def _place(self, number: int) -> tuple[str, str]:
        return self.columns[number].bench.label, self.columns[number].group

    def rows_of(self, part: list[int]) -> dict[str, str]:
        """The rows that have a cell in one of the columns."""
        return {row: role for row, role in self.rows.items() if any((row, number) in self.cells for number in part)}

    def has_paper(self, column: int) -> bool:
        return any(self.cell(row, column).paper for row in self.rows)
