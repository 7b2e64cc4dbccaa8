"""An AnnData as its owner has it, to prepared cells: for Python, where no `data=...` says where the counts are."""

from __future__ import annotations

import dataclasses
import tempfile
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scsave import keys
from scsave.data.preprocess import as_counts, log1p_normalise, prepared, recovered_counts
from scsave.data.read import RawCells, in_memory
from scsave.data.settings import DataSettings
from scsave.data.source import DataSource
from scsave.errors import UserError

LOOKED_AT = 50  # cells whose X is compared
_HINT = "give counts in layers['counts'], in X or in raw.X"
_WHERE_COUNTS_ARE = {"layer", "normalised_by", "library_key", "round_counts"}  # settings of a data set


@dataclass(frozen=True)
class Counts:
    """Counts (N, G) that an AnnData holds, the var of their genes, and the column of library sizes if it is known."""

    matrix: sp.csr_matrix
    var: pd.DataFrame
    library: str | None = None


def as_prepared(cells: AnnData) -> AnnData:
    """`cells` themselves if prepared; else a new AnnData of their counts, log1p, all of `obs` and the library size.

    Counts are where `counts_in` finds them. UserError where it finds none, for names that are not unique and for cells
    without counts.
    """
    if _prepared(cells):
        return cells if cells.X is not None else prepared(cells.layers[keys.COUNTS], cells.obs, cells.var, cells.uns)
    cells = cells.to_memory() if cells.isbacked else cells
    found = counts_in(cells)
    for what, index in (("cell", cells.obs_names), ("gene", found.var.index)):
        if not index.is_unique:
            again = index[index.duplicated()][0]
            raise UserError(f"cells: {what} '{again}' is there more than once; make names unique first")
    library = np.asarray(found.matrix.sum(axis=1), dtype=np.float64).ravel()
    if (library == 0).any():
        raise UserError(f"cells: {int((library == 0).sum())} of {len(library)} have no counts; leave them out")
    library = library if found.library is None else cells.obs[found.library].to_numpy(np.float64)
    return prepared(found.matrix, cells.obs.assign(**{keys.LIBRARY: library}), pd.DataFrame(index=found.var.index), {})


def counts_in(cells: AnnData) -> Counts:
    """Whole numbers in `layers["counts"]`, `X`, `raw.X` or the one other layer that has some, in this order.

    Else the counts behind log1p values there, where they come back whole (`recovered_counts`). UserError where neither is.
    """
    raw = RawCells.of(cells)
    first = [name for name in (keys.COUNTS, "X", "raw") if name in raw.matrices]
    places = {"layers['counts']" if n == keys.COUNTS else "raw.X" if n == "raw" else n: raw.matrices[n] for n in first}
    layers = {f"layers['{name}']": raw.matrices[name] for name in cells.layers if name != keys.COUNTS}
    refused, others = [], {}
    for where, (matrix, var) in (places | layers).items():
        try:
            counts = Counts(as_counts(matrix, where, _HINT, round_counts=False), var)
        except UserError as error:
            refused.append(str(error).removesuffix(f"; {_HINT}"))
            continue
        if where in places:
            return counts
        others[where] = counts
    if len(others) > 1:
        raise UserError(f"cells: {' and '.join(others)} both hold counts; name the one that is meant layers['counts']")
    if others:
        return next(iter(others.values()))
    for matrix, var in (places | layers).values():
        counts, column = recovered_counts(matrix, cells.obs)
        if counts is not None:
            return Counts(counts, var, column)
    raise UserError(f"cells: {'; '.join(refused) or 'no matrix'}; {_HINT}")


@dataclass(kw_only=True)
class InMemory(DataSource):
    """The data set that an AnnData is, under the settings of `data=h5ad`; it is prepared as a file of it would be."""

    cells: AnnData

    def __post_init__(self) -> None:
        DataSettings.__post_init__(self)

    def read(self, cache: Path) -> AbstractContextManager[RawCells]:
        return in_memory(lambda: self.cells)

    def preparation(self) -> dict[str, Any]:
        return {name: value for name, value in super().preparation().items() if name != "cells"}

    @classmethod
    def of(cls, cells: AnnData, node: dict[str, Any]) -> InMemory:
        """From the config node `data`; counts are found as in `counts_in` unless it says where they are."""
        cells = cells.to_memory() if cells.isbacked else cells
        known = {f.name for f in dataclasses.fields(DataSettings)} - {"path"}
        settings = {name: value for name, value in node.items() if name in known}
        if not any(settings.get(name) for name in _WHERE_COUNTS_ARE):
            found = counts_in(cells)
            cells = AnnData(found.matrix, obs=cells.obs, var=found.var, uns=cells.uns)
            settings["library_key"] = found.library
        return cls(cells=cells, **settings)

    def prepared(self) -> AnnData:
        """Prepared cells, all genes. UserError as any data set."""
        with tempfile.TemporaryDirectory() as folder:
            return self.load(Path(folder))


def with_genes(cells: AnnData, genes: list[str]) -> AnnData:
    """Prepared cells with a model's `genes` (N, G), by name; a gene that they lack counts as zero."""
    if list(cells.var_names) == genes:
        return cells
    return prepared(counts_of(cells, genes), cells.obs, pd.DataFrame(index=pd.Index(genes)), {})


def counts_of(cells: AnnData, genes: list[str]) -> sp.csr_matrix:
    """Counts of `genes` in prepared cells, (N, G), by name; 0 for one that they lack. UserError where they lack all."""
    counts, place = sp.csr_matrix(cells.layers[keys.COUNTS]), cells.var_names.get_indexer(genes)
    if list(cells.var_names) == genes:
        return counts  # as they are: large ones may be no more than mapped
    if (place < 0).all():
        raise UserError(
            f"none of the model's {len(place)} genes is among the cells' genes; the model's look like {genes[0]!r}, "
            f"the cells' like {cells.var_names[0]!r}"
        )
    return sp.hstack([counts, sp.csr_matrix((cells.n_obs, 1), dtype=counts.dtype)], format="csr")[:, place]


def _prepared(cells: AnnData) -> bool:
    """Are there counts, library sizes that can be theirs, and in X (if any) log1p of the one by the other?"""
    if keys.COUNTS not in cells.layers or keys.LIBRARY not in cells.obs or cells.isbacked:
        return False
    counts, library = sp.csr_matrix(cells.layers[keys.COUNTS]), cells.obs[keys.LIBRARY]
    if not pd.api.types.is_numeric_dtype(library) or (library.to_numpy() < counts.sum(axis=1).A1 * 0.999).any():
        return False
    if cells.X is None:
        return True
    x = cells.X[:LOOKED_AT]
    expected = log1p_normalise(counts[:LOOKED_AT], library.to_numpy()[:LOOKED_AT]).toarray()
    return np.allclose(x.toarray() if sp.issparse(x) else x, expected, atol=1e-2)
