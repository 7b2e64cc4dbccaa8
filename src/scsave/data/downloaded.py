"""`data=<name>` of the catalog: a public file, fetched at first use, or a local copy of it. A new set is one YAML."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from scsave.data.download import Mirror, fetch, manifest_entry
from scsave.data.read import RawCells, open_cells
from scsave.data.source import DataSource
from scsave.errors import UserError


@dataclass(kw_only=True)
class Downloaded(DataSource):
    """A set whose file is at one of `mirrors` (fields of `Mirror`), or at `path`, with the same checks."""

    mirrors: list[dict[str, Any]]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.mirrors:
            raise UserError(f"data.mirrors of data={self.name} is empty: name at least one url or page")
        try:
            self.places = [Mirror(**mirror) for mirror in self.mirrors]
        except TypeError as error:
            raise UserError(f"data.mirrors of data={self.name}: {error}") from error

    def known(self, cache: Path) -> tuple[Mirror, str]:
        """The mirror in use and the sum of its file; fetches it where no mirror's file was ever had here."""
        root = cache / "raw"
        for mirror in self.places:
            if entry := manifest_entry(mirror, root, self.name):
                return mirror, entry["sum"]
        _, mirror = fetch(self.places, root, self.name)
        return mirror, manifest_entry(mirror, root, self.name)["sum"]

    def fitted(self, cache: Path) -> Self:
        settings = {} if self.path is not None else self.known(cache)[0].settings
        return replace(self, **settings) if settings else self

    def checksum(self, cache: Path) -> str:
        return super().checksum(cache) if self.path is not None else self.known(cache)[1]

    def read(self, cache: Path) -> AbstractContextManager[RawCells]:
        if self.path is not None:
            path = Path(self.path)
        else:
            path, _ = fetch([self.known(cache)[0]], cache / "raw", self.name)
        return open_cells(path)
