"""Batches and noise are functions of (seed, step), whatever the number of processes."""

import torch

from scsave.training.loader import StepNoise, StepSampler


def batches(n, size, step=0, rank=0, world=1, seed=0):
    return list(StepSampler(n, size, seed, lambda: step, rank, world))


def test_an_epoch_shows_no_cell_twice_and_epochs_differ():
    first, second = batches(103, 10), batches(103, 10, step=10)
    flat = [i for b in first for i in b]
    assert len(first) == 10
    assert len(set(flat)) == len(flat) == 100
    assert first != second


def test_a_resumed_epoch_is_the_rest_of_the_whole_one():
    assert batches(103, 10, step=7) == batches(103, 10)[7:]


def test_ranks_share_a_batch():
    whole = batches(100, 8)
    parts = [batches(100, 8, rank=r, world=2) for r in (0, 1)]
    for batch, a, b in zip(whole, *parts, strict=True):
        assert a == batch[0::2]
        assert b == batch[1::2]


def test_fewer_cells_than_a_batch():
    (only,) = batches(5, 128)
    assert sorted(only) == [0, 1, 2, 3, 4]


def test_noise_is_sliced_like_the_batch():
    cpu = torch.device("cpu")
    whole = StepNoise((0, 1, 7), 0, 1, cpu).normal(8, 3)
    halves = [StepNoise((0, 1, 7), r, 2, cpu).normal(4, 3) for r in (0, 1)]
    assert torch.equal(whole[0::2], halves[0])
    assert torch.equal(whole[1::2], halves[1])
    assert not torch.equal(whole, StepNoise((0, 1, 8), 0, 1, cpu).normal(8, 3))
    assert not torch.equal(whole, StepNoise((1, 1, 7), 0, 1, cpu).normal(8, 3))
