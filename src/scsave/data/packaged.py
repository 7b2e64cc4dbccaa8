"""`data=pbmc68k`: cells that ship inside an installed package. No network, and the package is never imported."""

import importlib.util
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from scsave.data.files import file_checksum
from scsave.data.raw import RawCells, open_h5ad
from scsave.data.source import DataSource
from scsave.errors import UserError


def packaged_file(package: str, file: str, install: str) -> Path:
    """A file in the folder of an installed package, found without importing it; UserError saying how to install."""
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent / file if spec is not None and spec.origin else None
    if path is None or not path.is_file():
        what = f"has no {file}" if spec is not None else "is not installed"
        raise UserError(f"the package {package} {what}; install it with: {install}")
    return path


@dataclass(kw_only=True)
class Packaged(DataSource):
    """An `.h5ad` at `file` in the folder of `package`; `path` takes another copy of it."""

    package: str
    file: str

    def location(self) -> Path:
        """The packaged file, or `path`."""
        return Path(self.path) if self.path else packaged_file(self.package, self.file, f"pip install {self.package}")

    def read(self, cache: Path) -> AbstractContextManager[RawCells]:
        return open_h5ad(self.location())

    def checksum(self, cache: Path) -> str:
        return file_checksum(self.location())
