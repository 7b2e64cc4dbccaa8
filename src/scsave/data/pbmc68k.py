"""`data=pbmc68k`: the 700 PBMCs inside scanpy, with their counts recovered. No network."""

import importlib.util
import warnings
from dataclasses import dataclass
from pathlib import Path

import anndata
import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from scsave import keys
from scsave.data.source import DataSource
from scsave.errors import UserError


@dataclass(kw_only=True)
class PBMC68k(DataSource):
    """700 x 765. The file keeps log1p(counts / n_counts * 1e4); times n_counts it is whole again, up to rounding."""

    def packaged(self) -> Path:
        """The file in scanpy's folder, found without importing scanpy."""
        spec = importlib.util.find_spec("scanpy")
        path = Path(spec.origin).parent / "datasets" / "10x_pbmc68k_reduced.h5ad" if spec else None
        if path is None or not path.exists():
            raise UserError(
                f"data={self.name}: scanpy's packaged 10x_pbmc68k_reduced.h5ad is missing; install scanpy again"
            )
        return path

    def read(self, cache: Path) -> AnnData:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            packaged = anndata.read_h5ad(self.path or self.packaged())
        if packaged.raw is None or "n_counts" not in packaged.obs:
            raise UserError(f"{self.path}: not scanpy's pbmc68k_reduced: it has no raw.X or no n_counts in obs")
        per_cell = sp.diags(packaged.obs["n_counts"].to_numpy(dtype=np.float64) / keys.TARGET_SUM)
        counts = sp.csr_matrix(per_cell @ packaged.raw.X.astype(np.float64).expm1())
        counts.data = np.round(counts.data)
        return AnnData(X=counts.astype(np.float32), obs=packaged.obs, var=packaged.raw.var)
