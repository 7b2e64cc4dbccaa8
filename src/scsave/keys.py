"""Field names of every AnnData that the package reads or writes, in one place; and which obs columns play which role."""

from dataclasses import dataclass, field
from typing import Literal

COUNTS = "counts"  # layers: raw counts, CSR float32
LIBRARY = "library_size"  # obs: counts of the cell over all genes of its file, before any gene selection
CONTROL_CELL = "control_cell"  # obs of predicted cells: the control cell that a row is made from
LATENT = "X_save"  # obsm: latent mean, (N, L * d)
COMPONENTS = "X_components"  # obsm: softened principal components of corrected expression
UNCORRECTED = "X_uncorrected"  # obsm of integrated cells: principal components before correction, NaN where not scored
UNS = "scsave"  # uns: what the object is and where it came from
CORRECTED = "corrected_expression"  # uns[UNS]: does X of integrated cells hold corrected expression?
TARGET_SUM = 1e4  # log1p values are log(1 + counts / library_size * TARGET_SUM)
SIMULATED = "simulated"  # uns: the truth behind simulated data

GENE_ID = "gene_id"  # var: Ensembl id where known
COMBINED = "combined"  # route, and row of every table: the network's change and a closed form's, weighted
MASK = "[MASK]"  # the level that stands for "not told"

TRAIN, VAL, TEST = "train", "val", "test"  # group names of a split
ALL = "all"  # results: the aggregate group
POOLED = "pooled"  # results: all test cells at once


@dataclass(frozen=True)
class Columns:
    """Which obs columns of a data set play which role; what travels in place of the whole `DataSource`."""

    name: str  # of the data set, for messages and records
    conditions: list[str] = field(default_factory=list)
    cell_type: str | None = None
    batch: str | None = None
    perturbation: str | None = None
    control: str | None = None  # level of `perturbation`
    kind: Literal["level", "genes"] = "level"  # of `perturbation`: a drug or a disease, or names of sets of genes
    nuisance: list[str] | None = None  # technical columns; None: the batch
    numeric: list[str] = field(default_factory=list)  # columns that hold numbers
    carried: list[str] = field(default_factory=list)  # every obs column that prepared cells have
    organism: Literal["human", "mouse"] = "human"
    min_level_cells: int = 2
    perturbation_columns: list[str] | None = None  # that say too what was done: dose, time (`data.targets`)
