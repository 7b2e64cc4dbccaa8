import numpy as np
import pytest
import torch

from scsave.blocking.blocks import GeneBlocks
from scsave.errors import UserError


@pytest.fixture
def blocks() -> GeneBlocks:
    return GeneBlocks(("c", "a", "e", "b", "d"), np.array([0, 1, 0, 0, 1]), "semantic", {"coverage": 0.5})


def test_shape_and_places(blocks):
    assert (blocks.n_blocks, blocks.block_size, blocks.sizes.tolist()) == (2, 3, [3, 2])
    assert blocks.slot.tolist() == [1, 0, 2, 0, 1]  # b, c, e and a, d
    assert blocks.gather.tolist() == [3, 0, 2, 1, 4, 5]  # the last slot is padding


def padded(blocks, x):
    """(N, G) -> (N, L, K); pad slots hold zero."""
    return np.pad(x, ((0, 0), (0, 1)))[:, blocks.gather].reshape(len(x), blocks.n_blocks, blocks.block_size)


def test_gather_and_position_are_inverse_and_pads_hold_zero(blocks):
    x = np.arange(1.0, 11.0).reshape(2, 5)
    h = padded(blocks, x)
    assert h.shape == (2, 2, 3)
    assert (h[:, 1, 2] == 0).all()
    assert h[0].tolist() == [[4, 1, 3], [2, 5, 0]]
    h[:, 1, 2] = np.nan  # what is in a pad slot never comes out
    assert (h.reshape(2, -1)[:, blocks.position] == x).all()


def test_slots_follow_the_names_not_the_order(blocks):
    other = blocks.reindex(["a", "b", "c", "d", "e"])
    x = np.random.default_rng(0).random((2, 5))
    assert (padded(blocks, x) == padded(other, x[:, blocks.lookup(other.genes)])).all()


def test_reindex_refuses_other_genes(blocks):
    with pytest.raises(UserError, match="z"):
        blocks.reindex(["a", "b", "c", "d", "z"])
    with pytest.raises(UserError, match="1 of the 5 genes in blocks are not in the data: e"):
        blocks.reindex(["a", "b", "c", "d"])


def test_lookup_by_name(blocks):
    assert blocks.assignment[blocks.lookup(["d", "c"])].tolist() == [1, 0]


def test_roundtrip_by_name(blocks):
    again = GeneBlocks.from_dict(blocks.to_dict())
    assert again.genes == blocks.genes
    assert again.assignment.tolist() == blocks.assignment.tolist()
    assert (again.scheme, again.info) == (blocks.scheme, blocks.info)


def test_checkpoint_types_are_plain(blocks, tmp_path):
    torch.save(blocks.to_dict(), tmp_path / "b.pt")
    assert torch.load(tmp_path / "b.pt", weights_only=True) == blocks.to_dict()


@pytest.mark.parametrize(
    ("genes", "assignment"), [(("a", "a"), [0, 0]), (("a", "b"), [0, 2]), (("a", "b"), [0]), ((), [])]
)
def test_impossible_blocks_are_refused(genes, assignment):
    with pytest.raises(ValueError):
        GeneBlocks(genes, np.array(assignment, dtype=int), "random")
