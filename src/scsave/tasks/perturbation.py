"""Task `perturbation`: picks the task for levels (a drug, a disease) or for sets of genes (CRISPR) by the kind of data."""

from dataclasses import dataclass
from typing import Any

from scsave.data.settings import Level
from scsave.data.splits.hold_out import Scope
from scsave.tasks.genetic import Genetic
from scsave.tasks.response import Response


@dataclass(kw_only=True)
class Perturbation:
    """`level` and `genes` are the tasks; the other keys are what both take, and the config hands it on to them."""

    level: Response
    genes: Genetic
    name: str = "perturbation"
    hold_out: Level | list[Level] | None = None
    target: Any = None
    hold_out_scope: Scope = "type"
    route: str | None = None
    routes: list[str] | None = None
    n_top_genes: int = 2000
    n_components: int = 30
    min_cells: int = 500
    perturbation_cells: int = 300

    def for_kind(self, kind: str) -> Any:
        return {"level": self.level, "genes": self.genes}[kind]
