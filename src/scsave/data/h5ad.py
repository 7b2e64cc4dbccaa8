"""`data=h5ad`, `data=perturbseq_h5ad`: a file of your own; and cells that ship inside an installed package."""

import importlib.util
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd

from scsave.data.files import file_checksum
from scsave.data.read import RawCells, open_cells, rejoined
from scsave.data.source import DataSource
from scsave.errors import UserError


@dataclass(kw_only=True)
class H5AD(DataSource):
    """A local `.h5ad`, `.zarr` or `.loom`: counts in X (`layer=null`), in a layer, or in raw.X (`layer=raw`)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.path:
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
        if self.path is None or Path(self.path).exists():  # a missing file is said to be missing first
            needed = {
                "data.perturbation_key=<column of the perturbed genes>": self.perturbation_key,
                "data.control=<its level without perturbation>": self.control,
            }
            if missing := [what for what, given in needed.items() if given is None]:
                raise UserError(f"a Perturb-seq file needs {' and '.join(missing)}")
            self.conditions = self.conditions or [self.perturbation_key]
        super().__post_init__()


@dataclass(kw_only=True)
class Packaged(DataSource):
    """An `.h5ad` at `file` in the folder of `package`, which is never imported; `path` takes another copy of it."""

    package: str
    file: str

    def location(self) -> Path:
        """The packaged file, or `path`; UserError where the package is not installed or lacks the file."""
        if self.path:
            return Path(self.path)
        spec = importlib.util.find_spec(self.package)
        path = Path(spec.origin).parent / self.file if spec is not None and spec.origin else None
        if path is None or not path.is_file():
            what = f"has no {self.file}" if spec is not None else "is not installed"
            raise UserError(f"the package {self.package} {what}; install it with: pip install {self.package}")
        return path

    def read(self, cache: Path) -> AbstractContextManager[RawCells]:
        return open_cells(self.location())

    def checksum(self, cache: Path) -> str:
        return file_checksum(self.location())
