"""Data sources from the shipped configs, and tiny files to load."""

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from scsave.components import build
from scsave.runs.main import register_resolvers

CONFIGS = Path(__file__).parents[2] / "configs"


@cache
def shipped(group: str, name: str) -> DictConfig:
    """The node of one option, as the run composes it."""
    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        node = compose("train", [f"{group}={name}"])[group]
    OmegaConf.set_struct(node, False)
    return node


def make(group: str, name: str, **changes):
    """The object of one option, some of its keys changed, checked and built as the run does."""
    node = OmegaConf.to_container(OmegaConf.merge(shipped(group, name), changes), resolve=True)
    return build(node, group)


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
