"""What a data set is to the rest of the package: a few column names, and `load(cache)` that gives prepared cells."""

import hashlib
import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from anndata import AnnData
from pydantic import Field

from scsave.data.cells import Preparation, prepare
from scsave.data.gene_selection import select_genes, variable_genes
from scsave.errors import UserError

__all__ = ["DataSource", "select_genes", "variable_genes"]

# Fields that say what the set is or what is done after loading: they leave the prepared cells as they are.
_NOT_PREPARATION = {"name", "citation", "licence", "n_top_genes", "min_cells", "cell_type_key", "batch_key", "path"}


@dataclass(kw_only=True)
class DataSource:
    """One data set. A kind of set derives from this and implements `read`.

    Columns are named as the prepared cells name them; `columns` lists other names a file may use for them, `levels`
    other names for their levels. `n_top_genes` and `min_cells` are for `select_genes`, which the run calls on
    training cells only: `load` gives all genes.
    """

    name: str
    conditions: list[str]
    cell_type_key: str | None = None
    batch_key: str | None = None
    perturbation_key: str | None = None
    perturbation_kind: Literal["level", "genes"] = "level"
    control: str | None = None
    numeric: list[str] = field(default_factory=list)
    keep: list[str] = field(default_factory=list)
    columns: dict[str, list[str]] = field(default_factory=dict)
    levels: dict[str, dict[str, str]] = field(default_factory=dict)
    exclude: dict[str, list[str]] = field(default_factory=dict)
    organism: Literal["human", "mouse"] = "human"
    gene_id: Literal["symbol", "ensembl"] = "symbol"
    symbol_key: str | None = None
    gene_id_key: str | None = None
    duplicate_genes: Literal["error", "sum"] = "error"
    drop_genes: list[str] = field(default_factory=list)
    layer: str | None = None
    round_counts: bool = False
    library_key: str | None = None
    library_optional: bool = False
    min_genes: Annotated[int, Field(ge=0)] = 0
    min_cells: Annotated[int, Field(ge=0)] = 0
    drop_missing: bool = False
    min_level_cells: Annotated[int, Field(ge=1)] = 2
    rare_levels: Literal["error", "drop"] = "error"
    n_top_genes: Annotated[int, Field(gt=0)] | None = None
    path: str | None = None
    citation: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        if self.control is not None and self.perturbation_key is None:
            raise UserError(f"data.control={self.control} names a level, but data.perturbation_key is not set")
        if self.perturbation_kind == "genes" and (self.perturbation_key is None or self.control is None):
            raise UserError("data.perturbation_kind=genes needs data.perturbation_key and data.control")

    @property
    def obs_keys(self) -> list[str]:
        """Every obs column that the prepared cells carry, conditions first, without repeats."""
        named = [self.cell_type_key, self.batch_key, self.perturbation_key]
        return list(dict.fromkeys([*self.conditions, *(k for k in named if k), *self.keep]))

    def read(self, cache: Path) -> AnnData:
        """The cells as their file has them."""
        raise NotImplementedError

    def checksum(self, cache: Path) -> str:
        """What the cells depend on besides the settings, e.g. the sum of the file."""
        return ""

    def settings(self) -> dict[str, Any]:
        """The fields that change the prepared cells, plain types."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _NOT_PREPARATION}

    def key(self, cache: Path) -> str:
        """Hash of source and settings: two sources with one key prepare the same cells."""
        text = json.dumps([self.settings(), self.obs_keys, self.checksum(cache)], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def load(self, cache: Path) -> AnnData:
        """Prepared cells, all genes: `X` log1p, `layers[counts]`, `obs[library_size]`, the columns of `obs_keys`."""
        return prepare(self.read(Path(cache)), self.preparation(Path(cache)))

    def preparation(self, cache: Path) -> Preparation:
        """The settings of `prepare`, with the words for its messages and its record."""
        return Preparation(source=self, where=self.path or f"data={self.name}", checksum=self.checksum(cache))
