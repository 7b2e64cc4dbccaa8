"""A data set: its settings, how its file is read, and `load(cache)`, which gives prepared cells: the one path of every set.

Prepared cells are made a chunk of rows at a time, once, under a lock, and read back so: large ones lie mapped in files.
"""

import glob
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from filelock import FileLock

from scsave import keys
from scsave.data.files import remembered_checksum
from scsave.data.genes import detected_most, prepare_genes
from scsave.data.obs import check_levels, choose_cells, library_sizes, prepare_obs
from scsave.data.perturbations import respelt
from scsave.data.preprocess import TOTALS, as_counts, check_library, prepared, select_cells, undo_log1p
from scsave.data.read import RawCells
from scsave.data.settings import DataSettings
from scsave.errors import UserError
from scsave.stats import mapped
from scsave.stats.moments import BLOCK
from scsave.stats.resample import subsample

VERSION = 4  # of the prepared files: raise it when preparing the same file gives other cells
_COUNTS = f"layers/{keys.COUNTS}"


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


class CountsWriter:
    """Appends CSR rows to `layers/counts` of an h5ad file; what is in memory is one chunk."""

    def __init__(self, path: Path):
        import h5py

        self.file = h5py.File(path, "w")

    def append(self, rows: sp.csr_matrix) -> None:
        """Adds rows (n, G); every call with the same G."""
        if _COUNTS in self.file:
            anndata.io.sparse_dataset(self.file[_COUNTS]).append(rows)
        else:
            rows.indptr = rows.indptr.astype(np.int64)  # there may be more counts to come than 32 bits can number
            options = {"compression": "lzf", "chunks": (1 << 18,)}
            anndata.io.write_elem(self.file, _COUNTS, rows, dataset_kwargs=options)

    def finish(self, data: AnnData) -> None:
        """Writes obs, var and uns of `data`, (N, G) without matrices, which completes the file."""
        self.file["layers"].attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
        self.file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        for name, element in (("obs", data.obs), ("var", data.var), ("uns", dict(data.uns))):
            anndata.io.write_elem(self.file, name, element)


def write_prepared(path: Path, raw: RawCells, source: DataSettings, where: str, checksum: str) -> None:
    """Checked counts with the columns asked for, written to `path`; never more than a chunk of rows in memory.

    Raises UserError naming what is wrong with the file and what to set.
    """
    layer, matrix, var = raw.matrix(source.layers, where)
    hint = f"set data.layer to where the counts are (found: {', '.join(raw.matrices)}; read: {layer})"
    hint += f"; {TOTALS}"
    obs = prepare_obs(raw.obs, source, where)
    var, mapper = prepare_genes(var, source, where, raw.var)
    if source.perturbation_kind == "genes":
        key = source.perturbation_key
        obs[key] = respelt(obs[key], var.index, source.control, where)
    keep = choose_cells(obs, source, where)
    dropped = {"excluded_or_missing": int(len(obs) - keep.sum()), "few_genes": 0}
    rows = np.flatnonzero(keep)  # of these at most `max_cells`, drawn with the fixed seed 0 so that the data set is one
    keep = np.isin(np.arange(len(keep)), rows[subsample(len(rows), source.max_cells or len(rows), 0)])
    given = library_sizes(raw.obs, source, where)
    if source.max_genes is not None and source.max_genes < len(var):
        chosen = detected_most(raw, matrix, keep, mapper, source.max_genes)
        whole = sp.identity(matrix.shape[1], dtype=np.float32, format="csr") if mapper is None else mapper
        var, mapper = var.iloc[chosen], sp.csr_matrix(whole[:, chosen])

    kept, libraries = [np.empty(0, dtype=np.int64)], [np.empty(0)]
    writer = CountsWriter(path)
    with writer.file:
        for rows, part in raw.chunks(matrix, keep, f"preparing {source.name}"):
            if source.normalised_by is not None:
                part = undo_log1p(part, raw.obs, rows, source.normalised_by, where)
            counts = as_counts(part, where, hint, source.round_counts)
            library = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
            if given is not None:
                library = check_library(given[rows], library, raw.obs.index[rows], source.library_key, where)
            good = np.diff(counts.indptr) >= source.min_genes
            dropped["few_genes"] += int((~good).sum())
            if empty := int((library[good] <= 0).sum()):
                raise UserError(f"{where}: {empty} cells have no counts; set data.min_genes=1")
            counts = counts if good.all() else counts[good]
            if mapper is not None:
                counts = sp.csr_matrix(counts @ mapper)
                counts.sort_indices()
            writer.append(counts)
            kept.append(rows[good])
            libraries.append(library[good])
        rows = np.concatenate(kept)
        if not len(rows):
            raise UserError(f"{where}: no cell is left by the filters {dropped}; relax data.exclude or data.min_genes")
        obs = obs.iloc[rows].copy()
        obs[keys.LIBRARY] = np.concatenate(libraries)
        check_levels(obs, source, where)
        data = AnnData(obs=obs, var=var)
        data.uns[keys.UNS] = {
            "name": source.name, "source": source.path or source.name, "checksum": checksum,
            "organism": source.organism, "settings": json.dumps(source.preparation(), sort_keys=True, default=str),
            "layer": layer, "library": "sum over the genes of the file" if given is None else source.library_key,
            "dropped_cells": dropped,
        }  # fmt: skip
        if keys.SIMULATED in raw.uns:
            data.uns[keys.SIMULATED] = raw.uns[keys.SIMULATED]
        writer.finish(data)


def finish(data: AnnData, source: DataSettings, where: str) -> AnnData:
    """Written cells as the package uses them: without rare levels, unused levels gone."""
    common = check_levels(data.obs, source, where)
    if not common.any():
        why = f"no cell is left without its rare levels (data.min_level_cells={source.min_level_cells})"
        raise UserError(f"{where}: {why}; name columns with fewer levels in data.conditions")
    if not common.all():
        data.uns[keys.UNS]["dropped_cells"]["rare_levels"] = int((~common).sum())
        data = select_cells(data, np.flatnonzero(common))
    for column in data.obs.columns[data.obs.dtypes == "category"]:
        data.obs[column] = data.obs[column].cat.remove_unused_categories()
    return data


def build_once(path: Path, build: Callable[[Path], None], timeout: float = 6 * 3600) -> Path:
    """`path`, made by `build(temporary)` where it is missing. Of two jobs one builds, the other waits for it.

    The temporary file lies beside `path` and is renamed when whole; one that a killed job left there is removed.
    UserError where the folder cannot be written to, or its disk is full.
    """
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(path.name + ".lock"), timeout=timeout):
            if not path.exists():
                for left in path.parent.glob(f".{glob.escape(path.stem)}.*{path.suffix}"):
                    left.unlink()
                beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
                try:
                    build(beside)
                    os.replace(beside, path)
                finally:
                    beside.unlink(missing_ok=True)
    except OSError as error:
        hint = "set paths.cache=<a folder with room>"
        raise UserError(f"{path.parent}: the prepared cells cannot be written ({error}); {hint}") from error
    return path


def read_prepared(path: Path) -> AnnData:
    """Cells written by `CountsWriter`, with X (log1p); their matrices lie in files beside `path` where they are large."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            obs, var, uns = (anndata.io.read_elem(file[name]) for name in ("obs", "var", "uns"))
            small = 3 * file[_COUNTS]["data"].nbytes < mapped.LARGE  # values, indices and log1p
            counts = _stored_rows(file[_COUNTS], len(var), len(obs) if small else BLOCK)
            return prepared(next(counts) if small else counts, obs, var, uns, path.parent)
    except UserError:
        raise
    except Exception as error:  # a damaged file may raise anything
        raise UserError(f"{path}: the cached cells cannot be read ({error}); delete this file and run again") from error


def _stored_rows(group: Any, genes: int, size: int) -> Iterator[sp.csr_matrix]:
    """Counts (N, G) of a prepared file, `size` cells at a time."""
    indptr = group["indptr"][:]
    for start in range(0, len(indptr) - 1, size):
        place = indptr[start : start + size + 1]
        values, indices = (group[name][place[0] : place[-1]] for name in ("data", "indices"))
        yield sp.csr_matrix((values, indices, (place - place[0]).astype(np.int32)), shape=(len(place) - 1, genes))
