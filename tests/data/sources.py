"""Data sources from the shipped configs, and tiny files to load."""

from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
import yaml
from anndata import AnnData
from hydra.utils import get_class

CONFIGS = Path(__file__).parents[2] / "configs"


def make(group: str, name: str, **changes):
    """The object of one option, as the run builds it."""
    node = yaml.safe_load((CONFIGS / group / f"{name}.yaml").read_text())
    for default in node.pop("defaults", []):
        if default != "_self_":
            node = yaml.safe_load((CONFIGS / group / f"{default}.yaml").read_text()) | node
    return get_class(node.pop("_target_"))(**(node | changes))


def tiny(cells: int = 60, genes: int = 12, seed: int = 0) -> AnnData:
    """Counts with three cell types and two batches in equal parts."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(3.0, size=(cells, genes)).astype(np.float32)
    counts[:, 0] += 1  # no empty cell
    obs = pd.DataFrame(
        {
            "cell_type": np.array(["A", "B", "C"])[np.arange(cells) % 3],
            "batch": (np.arange(cells) // 3) % 2 + 1,
            "age": np.linspace(1, 2, cells),
        },
        index=[f"c{i}" for i in range(cells)],
    )
    return AnnData(X=sp.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=[f"G{g}" for g in range(genes)]))


def h5ad(path: Path, data: AnnData, **changes):
    """`data=h5ad` over `data` written to `path`."""
    data.write_h5ad(path)
    return make("data", "h5ad", path=str(path), **({"conditions": ["cell_type"]} | changes))
