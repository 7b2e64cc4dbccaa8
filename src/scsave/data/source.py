"""What a data set is to the rest of the package: a few column names, and `load(cache)` that gives prepared cells."""

import hashlib
import json
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from pydantic import Field

from scsave.data.cells import finish, write_prepared
from scsave.data.files import remembered_checksum
from scsave.data.gene_selection import select_cells, select_genes, variable_genes
from scsave.data.obs import find_column
from scsave.data.raw import RawCells, X
from scsave.data.store import build_once, read_prepared
from scsave.errors import UserError
from scsave.keys import Columns

__all__ = ["DataSource", "select_cells", "select_genes", "variable_genes"]

VERSION = 3  # of the prepared files: raise it when preparing the same file gives other cells
# Fields that say what the set is, or what is done after loading: the prepared cells are the same without them.
_NOT_PREPARATION = {"name", "citation", "licence", "n_top_genes", "min_cells", "path", "mirrors"}


@dataclass(kw_only=True)
class DataSource:
    """One data set. A kind of set derives from this and implements `read`.

    Columns are named as the prepared cells name them; `columns` lists other names that a file may use for them,
    `levels` other names of their levels; `from_names` makes a column from the cell names, by the first group of a
    regular expression. `layer` may be a list: the first that is there is read (null is X).
    `normalised_by`: the layer holds log1p(counts / obs[normalised_by] * 1e4) and the counts are recovered.
    `max_cells` and `max_genes` subset on the way in, the genes being those seen in most cells, whatever their split.
    `n_top_genes` and `min_cells` are for `select_genes`, which a run calls on training cells: `load` gives all genes.
    """

    name: str
    conditions: list[str]
    cell_type_key: str | None = None
    batch_key: str | None = None
    perturbation_key: str | None = None
    perturbation_kind: Literal["level", "genes"] = "level"
    control: str | int | None = None
    from_names: dict[str, str] = field(default_factory=dict)
    numeric: list[str] = field(default_factory=list)
    keep: list[str] = field(default_factory=list)
    columns: dict[str, list[str]] = field(default_factory=dict)
    levels: dict[str, dict[str, str]] = field(default_factory=dict)
    exclude: dict[str, list[str | int | float]] = field(default_factory=dict)
    organism: Literal["human", "mouse"] = "human"
    gene_id: Literal["symbol", "ensembl", "auto"] = "symbol"
    symbol_key: str | None = None
    gene_id_key: str | None = None
    duplicate_genes: Literal["error", "sum"] = "error"
    drop_genes: str | None = None
    layer: str | list[str | None] | None = None
    normalised_by: str | None = None
    round_counts: bool = False
    library_key: str | None = None
    library_optional: bool = False
    min_genes: Annotated[int, Field(ge=0)] = 0
    min_cells: Annotated[int, Field(ge=0)] = 0
    max_cells: Annotated[int, Field(gt=0)] | None = None
    max_genes: Annotated[int, Field(gt=0)] | None = None
    drop_missing: bool = False
    min_level_cells: Annotated[int, Field(ge=1)] = 2
    rare_levels: Literal["error", "drop"] = "error"
    n_top_genes: Annotated[int, Field(gt=0)] | None = None
    path: str | None = None
    citation: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        # configs say null: Hydra merges into an empty dict only keys that it has
        for name in ("columns", "levels", "from_names", "exclude"):
            if getattr(self, name) is None:
                setattr(self, name, {})
        self.control = None if self.control is None else str(self.control)  # levels are text in prepared cells
        if self.control is not None and self.perturbation_key is None:
            raise UserError(f"data.control={self.control} names a level, but data.perturbation_key is not set")
        if self.perturbation_kind == "genes" and (self.perturbation_key is None or self.control is None):
            raise UserError("data.perturbation_kind=genes needs data.perturbation_key and data.control")

    @property
    def obs_keys(self) -> list[str]:
        """Every obs column that the prepared cells carry, conditions first, without repeats."""
        named = [self.cell_type_key, self.batch_key, self.perturbation_key]
        return list(dict.fromkeys([*self.conditions, *(k for k in named if k), *self.keep]))

    @property
    def roles(self) -> Columns:
        """The columns of the prepared cells and what each is for."""
        return Columns(
            name=self.name,
            conditions=list(self.conditions),
            cell_type=self.cell_type_key,
            batch=self.batch_key,
            perturbation=self.perturbation_key,
            control=self.control,
            kind=self.perturbation_kind,
            numeric=list(self.numeric),
            carried=self.obs_keys,
            organism=self.organism,
            min_level_cells=self.min_level_cells,
        )

    def whole_obs(self, obs: pd.DataFrame) -> pd.DataFrame:
        """`obs` of prepared cells with the further columns that the file has, where the file is a user's own."""
        return obs

    @property
    def layers(self) -> list[str]:
        """Where the counts may be, most likely first: `X`, `raw` or a layer."""
        wanted = self.layer if isinstance(self.layer, list) else [self.layer]
        return [X if name is None else name for name in wanted]

    def library_column(self, obs: pd.DataFrame, where: str) -> np.ndarray | None:
        """The library sizes that the file states, (N,), or None: then the counts are added up."""
        if self.library_key is None or (self.library_optional and self.library_key not in obs):
            return None
        names = self.columns.get(self.library_key, [])
        return obs[find_column(obs, self.library_key, names, where, "data.library_key")].to_numpy(dtype=np.float64)

    def read(self, cache: Path) -> AbstractContextManager[RawCells]:
        """The cells as their file has them, open while in use."""
        raise NotImplementedError

    def fitted(self, cache: Path) -> "DataSource":
        """The settings for the file that is there, where kinds of file differ; itself otherwise."""
        return self

    def checksum(self, cache: Path) -> str:
        """What the cells depend on besides the settings: the sum of the file."""
        return remembered_checksum(Path(self.path), cache) if self.path is not None else ""

    def settings(self) -> dict[str, Any]:
        """The fields that change the prepared cells, plain types."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _NOT_PREPARATION}

    def prepared_path(self, cache: Path) -> Path:
        """Where the prepared cells are: the name carries a hash of source and settings."""
        text = json.dumps([VERSION, self.settings(), self.checksum(cache)], sort_keys=True, default=str)
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
