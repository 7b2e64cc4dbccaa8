"""Rows of cells and of latents: the ones asked for, in that order, once each."""

import numpy as np
import scipy.sparse as sp
import torch

from scsave.training.loader import CellRows, LatentRows, StepSampler, in_order, loader
from tests.models.test_model import OBS, model_of


def test_batches_are_the_rows_asked_for():
    rng = np.random.default_rng(0)
    dense = rng.poisson(0.3, size=(50, 20)).astype(np.float32)
    library, groups = dense.sum(1) + 7, np.arange(50) % 4
    cells = CellRows(sp.csr_matrix(dense), library, {"batch": torch.arange(50)}, groups)
    assert len(cells) == 50
    batch = cells.batch(np.array([3, 40, 40]))
    np.testing.assert_array_equal(batch["counts"].numpy(), dense[[3, 40, 40]])
    np.testing.assert_array_equal(batch["library"].numpy(), library[[3, 40, 40]])
    assert batch["values"]["batch"].tolist() == [3, 40, 40]
    assert batch["group"].tolist() == [3, 0, 0]
    assert batch["counts"].dtype == batch["library"].dtype == torch.float32
    assert torch.equal(batch["seen"], batch["counts"].nonzero().T)


def test_a_matrix_whose_entries_are_in_no_order_names_each_count_once():
    entries = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2, 0, 2, 1]), np.array([0, 3, 4])  # gene 2 of cell 0 twice
    given = sp.csr_matrix(entries, shape=(2, 3))
    batch = CellRows(given, np.ones(2)).batch([0, 1])
    assert batch["seen"].tolist() == [[0, 0, 1], [0, 2, 1]]
    assert batch["counts"].tolist() == [[2, 0, 4], [0, 4, 0]]
    assert given.indices.tolist() == [2, 0, 2, 1]  # the caller's matrix is left as it was


def test_a_loader_passes_every_cell_once():
    dense = np.arange(36, dtype=np.float32).reshape(12, 3)
    cells = CellRows(sp.csr_matrix(dense), dense.sum(1))
    shuffled = list(loader(cells, StepSampler(12, 4, 0, lambda: 0, 0, 1)))
    assert [len(b["library"]) for b in shuffled] == [4, 4, 4]
    seen = torch.cat([b["counts"] for b in shuffled]).numpy()
    assert not np.array_equal(seen, dense)
    np.testing.assert_array_equal(seen[np.argsort(seen[:, 2])], dense)
    batches = list(in_order(cells, 5))
    assert [len(b["library"]) for b in batches] == [5, 5, 2]
    np.testing.assert_array_equal(torch.cat([b["counts"] for b in batches]).numpy(), dense)


def test_latent_rows_are_what_the_encoder_says_of_the_cells():
    model, values = model_of()
    counts = np.random.default_rng(0).poisson(1.0, (len(OBS), 11)).astype(np.float32)
    cells = CellRows(sp.csr_matrix(counts), counts.sum(1) + 1, values, np.arange(len(OBS)))
    batch = LatentRows(model, cells, torch.device("cpu")).__getitems__([2, 0])
    with torch.no_grad():
        q = model.encode(model.scaled(torch.from_numpy(counts), torch.from_numpy(counts.sum(1) + 1)))
    torch.testing.assert_close(batch["mu"], q.mu[[2, 0]])
    torch.testing.assert_close(batch["logvar"], q.logvar[[2, 0]])
    assert batch["group"].tolist() == [2, 0]
    assert all(torch.equal(batch["values"][name], v[[2, 0]]) for name, v in values.items())
