"""Strata of control and treated cells, and how a step draws from them."""

import numpy as np
import pandas as pd
import torch

from scsave.keys import Columns
from scsave.training.pairs import CELLS, Pairs, pairs_of

COLUMNS = Columns("test", ["condition"], "cell_type", "batch", "condition", "ctrl")


def table(*groups):
    """One row a cell of (type, batch, condition, number)."""
    rows = [(kind, batch, level) for kind, batch, level, n in groups for _ in range(n)]
    return pd.DataFrame(rows, columns=["cell_type", "batch", "condition"])


def test_strata_are_type_and_batch_where_both_sides_are_there():
    obs = table(
        ("B", "1", "ctrl", 12), ("B", "1", "stim", 15), ("B", "2", "ctrl", 11), ("B", "2", "stim", 10),
        ("T", "1", "ctrl", 20), ("T", "2", "stim", 20), ("NK", "1", "ctrl", 30),
    )  # fmt: skip
    pairs = pairs_of(obs, COLUMNS)
    assert pairs.names == ["B", "B", "T"]  # of T no batch has both sides, of NK no cell is treated
    for control, treated, name in zip(pairs.control, pairs.treated, pairs.names, strict=True):
        assert set(obs.condition[control.numpy()]) == {"ctrl"}
        assert set(obs.condition[treated.numpy()]) == {"stim"}
        assert set(obs.cell_type[[*control.tolist(), *treated.tolist()]]) == {name}
    assert [set(obs.batch[c.numpy()]) for c in pairs.control] == [{"1"}, {"2"}, {"1"}]
    assert pairs.without({"B"}).names == ["T"]
    assert pairs_of(table(("B", "1", "ctrl", 30)), COLUMNS) is None
    assert pairs_of(obs, Columns("test", ["condition"])) is None


def test_strata_are_drawn_equally_often_whatever_their_size():
    sizes = (10, 1000)
    pairs = Pairs(
        [torch.arange(n) + 10_000 * k for k, n in enumerate(sizes)],
        [torch.arange(n) + 10_000 * k + 5000 for k, n in enumerate(sizes)],
        ["small", "large"],
    )
    rng, share = torch.Generator().manual_seed(0), []
    for _ in range(400):
        control, treated, group, entry = pairs.drawn(rng)
        assert torch.equal(entry, control // 10_000)
        assert len(control) == len(treated) == len(group) == CELLS
        assert torch.equal(control // 10_000, treated // 10_000)  # a pair is of one stratum
        for number in group.unique():
            assert len((control[group == number] // 10_000).unique()) == 1
        share.append((control < 10_000).float().mean().item())
    assert abs(np.mean(share) - 0.5) < 0.04


def test_sets_of_genes_are_strata_of_their_own_in_any_spelling():
    columns = Columns("test", ["condition"], None, None, "condition", "ctrl", "genes")
    obs = table(("x", "1", "ctrl", 20), ("x", "1", "A+B", 10), ("x", "1", "B+A", 10), ("x", "1", "C", 15))
    pairs = pairs_of(obs, columns)
    assert pairs.names == ["A+B", "C"]
    assert [len(treated) for treated in pairs.treated] == [20, 15]
    assert all(len(control) == 20 for control in pairs.control)


def test_a_drug_and_its_dose_make_targets_of_their_own():
    obs = table(("B", "1", "ctrl", 12), ("B", "1", "X", 40), ("T", "1", "ctrl", 12), ("T", "1", "X", 40))
    obs["dose"] = np.where(obs.condition == "ctrl", 0.0, np.where(np.arange(len(obs)) % 2, 1.0, 10.0))
    columns = Columns(
        "test", ["condition", "dose"], "cell_type", "batch", "condition", "ctrl", perturbation_columns=["dose"]
    )
    pairs = pairs_of(obs, columns)
    assert pairs.labels == ["X, dose=1", "X, dose=10"]
    assert pairs.targets == [0, 0, 1, 1]
    for treated, target in zip(pairs.treated, pairs.targets, strict=True):
        assert set(obs.dose[treated.numpy()]) == {[1.0, 10.0][target]}
    assert pairs.without({"B"}).targets == [0, 1]
