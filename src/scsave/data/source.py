"""A data set: its settings, how its file is read, and `load(cache)`, which gives prepared cells."""

import hashlib
import json
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pandas as pd
from anndata import AnnData

from scsave.data.files import remembered_checksum
from scsave.data.prepare import build_once, finish, read_prepared, write_prepared
from scsave.data.read import RawCells
from scsave.data.settings import DataSettings
from scsave.errors import UserError

VERSION = 4  # of the prepared files: raise it when preparing the same file gives other cells


@dataclass(kw_only=True)
class DataSource(DataSettings):
    """One data set. A kind of set derives from this and implements `read`. UserError where `path` does not exist."""

    def __post_init__(self) -> None:
        if self.path is not None and not Path(self.path).exists():
            raise UserError(f"{self.path}: no such file; give data.path=<an existing file>")
        super().__post_init__()

    def read(self, cache: Path) -> AbstractContextManager[RawCells]:
        """The cells as their file has them, open while in use."""
        raise NotImplementedError

    def fitted(self, cache: Path) -> Self:
        """The settings for the file that is there, where kinds of file differ; itself otherwise."""
        return self

    def checksum(self, cache: Path) -> str:
        """What the cells depend on besides the settings: the sum of the file."""
        return remembered_checksum(Path(self.path), cache) if self.path is not None else ""

    def whole_obs(self, obs: pd.DataFrame) -> pd.DataFrame:
        """`obs` of prepared cells with the further columns that the file has, where the file is a user's own."""
        return obs

    def prepared_path(self, cache: Path) -> Path:
        """Where the prepared cells are: the name carries a hash of source and settings."""
        text = json.dumps([VERSION, self.preparation(), self.checksum(cache)], sort_keys=True, default=str)
        return cache / "prepared" / f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.h5ad"

    def load(self, cache: Path) -> AnnData:
        """Prepared cells, all genes: `X` log1p, `layers[counts]`, `obs[library_size]`, the columns of `obs_keys`.

        Prepared once and kept under `cache`; a second job that starts meanwhile waits for the first.
        """
        cache = Path(cache)
        source, where = self.fitted(cache), self.path or f"data={self.name}"

        def build(path: Path) -> None:
            with source.read(cache) as raw:
                write_prepared(path, raw, source, where, source.checksum(cache))

        return finish(read_prepared(build_once(source.prepared_path(cache), build)), source, where)
