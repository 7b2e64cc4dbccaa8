"""Settings of a data set: its file, what its columns are for, and which cells and genes are kept. Nothing is read here."""

import math
import re
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from scsave.errors import UserError
from scsave.files import file_name
from scsave.keys import LIBRARY, Columns

RESERVED = (LIBRARY, "cell")  # names in obs of every file that is written: library sizes, and the index
Level = str | bool | int | float  # as Hydra reads one; prepared cells have text
X = "X"  # the name of the main matrix among the layers
# Fields that say what the set is, or what is done after loading: the prepared cells are the same without them.
_NOT_PREPARATION = {
    "name", "citation", "licence", "n_top_genes", "min_cells", "path", "mirrors", "perturbation_columns",
}  # fmt: skip


@dataclass(kw_only=True)
class DataSettings:
    """What every data set can be told; `configs/data/base/source.yaml` says it key by key.

    Columns are named as the prepared cells name them; `columns` lists other names that a file may use for them,
    `levels` other names of their levels, `fill_missing` the level of cells without a label; `from_names` makes a column from
    the cell names, by the first group of a regular expression. `layer` may be a list: the first that is there is read (null
    is X). `normalised_by` is for a file that keeps log1p(counts per 10,000) and no counts: the obs column of each cell's
    total counts before normalisation, from which they are recovered. `max_cells` and `max_genes` subset on the way in, the
    genes being those seen in most cells, whatever their split. `n_top_genes` and `min_cells` are for `select_genes`, which a
    run calls on training cells.
    Raises UserError for settings that contradict each other or name a column that the package writes itself.
    """

    name: str
    conditions: list[str]
    cell_type_key: str | None = None
    batch_key: str | None = None
    nuisance: list[str] | None = None
    perturbation_key: str | None = None
    perturbation_kind: Literal["level", "genes"] = "level"
    perturbation_columns: list[str] | None = None
    control: Level | Annotated[float, Field(allow_inf_nan=True)] | None = None  # nan gets a line of its own
    from_names: dict[str, str] = field(default_factory=dict)
    numeric: list[str] = field(default_factory=list)
    keep: list[str] = field(default_factory=list)
    columns: dict[str, list[str]] = field(default_factory=dict)
    levels: dict[str, dict[str, str]] = field(default_factory=dict)
    fill_missing: dict[str, Level] = field(default_factory=dict)
    exclude: dict[str, list[Level]] = field(default_factory=dict)
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
    min_genes: NonNegativeInt = 0
    min_cells: NonNegativeInt = 0
    max_cells: PositiveInt | None = None
    max_genes: PositiveInt | None = None
    drop_missing: bool = False
    min_level_cells: PositiveInt = 2
    rare_levels: Literal["error", "drop"] = "error"
    n_top_genes: PositiveInt | None = None
    path: str | None = None
    citation: str = ""
    licence: str = ""
    keeps_unlabelled: ClassVar[bool] = False  # of cells without a cell type; a task that can do with some sets it

    def __post_init__(self) -> None:
        file_name("data.name", self.name)
        # configs say null: Hydra merges into an empty dict only keys that it has
        for name in ("columns", "levels", "fill_missing", "from_names", "exclude"):
            if getattr(self, name) is None:
                setattr(self, name, {})
        if isinstance(self.control, float) and math.isnan(self.control):
            raise UserError(
                "data.control=nan is read as a missing number; a level of that name is written data.control='\"nan\"'; "
                "where the controls are the cells without a label, name one for them: "
                f"data.control=control 'data.fill_missing={{{self.perturbation_key or '<column>'}: control}}'"
            )
        self.control = None if self.control is None else str(self.control)  # levels are text in prepared cells
        if self.control is not None and self.perturbation_key is None:
            raise UserError(f"data.control={self.control} names a level, but data.perturbation_key is not set")
        if self.perturbation_kind == "genes" and (self.perturbation_key is None or self.control is None):
            raise UserError("data.perturbation_kind=genes needs data.perturbation_key and data.control")
        for name in self.conditions:
            if self.conditions.count(name) > 1:
                raise UserError(f"data.conditions=[{', '.join(self.conditions)}] names '{name}' twice; name it once")
        for option in ("numeric", "levels", "fill_missing"):
            for name in getattr(self, option):
                if name not in self.obs_keys:
                    raise UserError(
                        f"data.{option} names '{name}', which is none of the columns that are read "
                        f"({', '.join(self.obs_keys) or 'none'}): name it in data.conditions or data.keep too"
                    )
        for option, patterns in (("drop_genes", [self.drop_genes]), ("from_names", self.from_names.values())):
            for pattern in filter(None, patterns):
                try:
                    groups = re.compile(pattern).groups
                except re.error as error:
                    raise UserError(f"data.{option}: '{pattern}' is no regular expression ({error})") from None
                if option == "from_names" and not groups:
                    taken = f"write brackets around what is taken: '({pattern})'"
                    raise UserError(f"data.{option}: '{pattern}' has no group; {taken}")
        for name in self.obs_keys:
            if name in RESERVED:
                raise UserError(
                    f"data={self.name}: '{name}' is a name that scsave writes itself; read the file's column under "
                    f"another, such as data.conditions=[my_{name}] 'data.columns={{my_{name}: [{name}]}}'"
                )

    @property
    def obs_keys(self) -> list[str]:
        """Every obs column that the prepared cells carry, conditions first, without repeats."""
        named = [self.cell_type_key, self.batch_key, self.perturbation_key]
        return list(dict.fromkeys([*self.conditions, *(k for k in named if k), *(self.nuisance or []), *self.keep]))

    @property
    def roles(self) -> Columns:
        """The columns of the prepared cells and what each is for."""
        return Columns(
            name=self.name, conditions=list(self.conditions), cell_type=self.cell_type_key, batch=self.batch_key,
            perturbation=self.perturbation_key, control=self.control, kind=self.perturbation_kind,
            nuisance=self.nuisance, numeric=list(self.numeric), carried=self.obs_keys, organism=self.organism,
            min_level_cells=self.min_level_cells, perturbation_columns=self.perturbation_columns,
        )  # fmt: skip

    @property
    def layers(self) -> list[str]:
        """Where the counts may be, most likely first: `X`, `raw` or a layer."""
        wanted = self.layer if isinstance(self.layer, list) else [self.layer]
        return [X if name is None else name for name in wanted]

    def options_of(self, column: str) -> str:
        """The options that name an obs column, for a message: `data.conditions and data.batch_key`."""
        keys = [key for key in ("cell_type_key", "batch_key", "perturbation_key") if getattr(self, key) == column]
        lists = [key for key in ("conditions", "keep") if column in getattr(self, key)]
        return " and ".join(f"data.{key}" for key in [*lists, *keys])

    def preparation(self) -> dict[str, Any]:
        """The fields that change the prepared cells, plain types."""
        kept = {"keeps_unlabelled": True} if self.keeps_unlabelled else {}
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _NOT_PREPARATION} | kept
