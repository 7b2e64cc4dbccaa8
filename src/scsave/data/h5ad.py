"""`data=h5ad data.path=... data.conditions=[...]`: anyone's file."""

from dataclasses import dataclass
from pathlib import Path

from anndata import AnnData

from scsave.data.files import file_checksum, read_h5ad
from scsave.data.source import DataSource
from scsave.errors import UserError


@dataclass(kw_only=True)
class H5AD(DataSource):
    """A local `.h5ad`: counts in X (`layer=null`), in a layer, or in raw.X (`layer=raw`)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.path is None:
            raise UserError(f"data={self.name} needs data.path=<your file>.h5ad")

    def read(self, cache: Path) -> AnnData:
        return read_h5ad(Path(self.path))

    def checksum(self, cache: Path) -> str:
        return file_checksum(Path(self.path))
