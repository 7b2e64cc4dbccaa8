"""`data=h5ad data.path=... data.conditions=[...]` and `data=perturbseq_h5ad`: anyone's file."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd

from scsave.data.raw import RawCells, open_cells, rejoined
from scsave.data.source import DataSource
from scsave.errors import UserError


@dataclass(kw_only=True)
class H5AD(DataSource):
    """A local `.h5ad`, `.zarr` or `.loom`: counts in X (`layer=null`), in a layer, or in raw.X (`layer=raw`)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.path is None:
            raise UserError(f"data={self.name} needs data.path=<your file>.h5ad")

    def read(self, cache: Path) -> AbstractContextManager[RawCells]:
        return open_cells(Path(self.path))

    def whole_obs(self, obs: pd.DataFrame) -> pd.DataFrame:
        return rejoined(obs, Path(self.path))


@dataclass(kw_only=True)
class PerturbSeqH5AD(H5AD):
    """A Perturb-seq `.h5ad`: `perturbation_key` holds the perturbed genes in any usual spelling, `control` its control.

    Without `conditions`, the perturbation is the one condition.
    """

    conditions: list[str] = field(default_factory=list)
    perturbation_kind: Literal["genes"] = "genes"

    def __post_init__(self) -> None:
        needed = {
            "data.perturbation_key=<column of the perturbed genes>": self.perturbation_key,
            "data.control=<its level without perturbation>": self.control,
        }
        if missing := [what for what, given in needed.items() if given is None]:
            raise UserError(f"a Perturb-seq file needs {' and '.join(missing)}")
        self.conditions = self.conditions or [self.perturbation_key]
        super().__post_init__()
