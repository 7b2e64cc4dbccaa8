"""`data=h5ad data.path=... data.conditions=[...]`: anyone's file."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from scsave.data.raw import RawCells, open_h5ad
from scsave.data.source import DataSource
from scsave.errors import UserError


@dataclass(kw_only=True)
class H5AD(DataSource):
    """A local `.h5ad`: counts in X (`layer=null`), in a layer, or in raw.X (`layer=raw`)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.path is None:
            raise UserError(f"data={self.name} needs data.path=<your file>.h5ad")

    def read(self, cache: Path) -> AbstractContextManager[RawCells]:
        return open_h5ad(Path(self.path))
