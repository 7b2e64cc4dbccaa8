import numpy as np
import scipy.sparse as sp
import torch
from torch.utils.data import DataLoader

from scsave.data.dataset import CellDataset


def test_batches_are_the_rows_asked_for():
    rng = np.random.default_rng(0)
    dense = rng.poisson(0.3, size=(50, 20)).astype(np.float32)
    library = dense.sum(1) + 7
    rows = np.array([4, 40, 11, 3, 8])
    cells = CellDataset(sp.csr_matrix(dense), library, rows)
    assert len(cells) == 5
    batch = cells.batch(np.array([3, 0, 0]))
    np.testing.assert_array_equal(batch["counts"].numpy(), dense[[3, 4, 4]])
    np.testing.assert_array_equal(batch["library"].numpy(), library[[3, 4, 4]])
    assert batch["counts"].dtype == batch["library"].dtype == torch.float32


def test_a_loader_passes_every_cell_once():
    dense = np.arange(36, dtype=np.float32).reshape(12, 3)
    cells = CellDataset(sp.csr_matrix(dense), dense.sum(1))
    batches = list(DataLoader(cells, batch_size=5, shuffle=True, collate_fn=CellDataset.collate))
    assert [len(b["library"]) for b in batches] == [5, 5, 2]
    seen = torch.cat([b["counts"] for b in batches]).numpy()
    np.testing.assert_array_equal(seen[np.argsort(seen[:, 2])], dense)
