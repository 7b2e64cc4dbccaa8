import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from anndata import AnnData

from scsave.results.figures import joint_umap, marker_genes


def marked() -> AnnData:
    """Three types of 40, 20 and 10 cells, each with a gene of its own; a second one of type a; a gene that all have."""
    x, kind = np.zeros((70, 6), np.float32), np.repeat(["a", "b", "c"], [40, 20, 10])
    x[kind == "a", 0], x[kind == "b", 1], x[kind == "c", 2] = 3.0, 2.0, 1.0
    x[kind == "a", 3], x[:, 4] = 2.5, 5.0
    return AnnData(sp.csr_matrix(x), pd.DataFrame({"kind": kind}, index=[f"c{n}" for n in range(70)]))


def test_markers_are_of_several_levels():
    assert marker_genes(marked(), "kind", 3) == {"0": "a", "1": "b", "2": "c"}
    assert marker_genes(marked(), "kind", 4)["3"] == "a"


def test_without_levels_the_genes_that_vary_most():
    assert list(marker_genes(marked(), None, 2)) == ["0", "3"]
    one = marked()
    one.obs["kind"] = "only"
    assert marker_genes(one, "kind", 2) == {"0": "", "3": ""}


def test_a_umap_leaves_torch_its_threads(monkeypatch):
    import umap

    class Greedy(umap.UMAP):
        """As numba's layers do on some machines."""

        def fit_transform(self, x):
            torch.set_num_threads(2)
            return x[:, :2]

    monkeypatch.setattr(umap, "UMAP", Greedy)
    torch.set_num_threads(1)
    joint_umap(marked(), marked())
    assert torch.get_num_threads() == 1
