"""Batches as a function of (seed, step): the same on one process or many, after a resume or without one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from scsave.data.conditions import Values
from scsave.data.dataset import CellDataset

Batch = dict[str, Any]


class CellRows(Dataset):
    """Cells made dense when a batch is asked for: counts (B, G), library (B,), condition values, group (B,)."""

    def __init__(self, cells: CellDataset, values: Values, groups: Tensor):
        self.cells, self.values, self.groups = cells, values, groups

    def __len__(self) -> int:
        return len(self.cells)

    def __getitems__(self, rows: list[int]) -> Batch:
        index = np.asarray(rows)
        place = torch.from_numpy(index)
        values = {name: v[place] for name, v in self.values.items()}
        return self.cells.batch(index) | {"values": values, "group": self.groups[place]}


class LatentRows(Dataset):
    """Cached posteriors for the flow stage: mu, logvar (B, L, d), library (B,), condition values, group (B,)."""

    def __init__(self, tensors: dict[str, Tensor], values: Values):
        self.tensors, self.values = tensors, values

    def __len__(self) -> int:
        return len(self.tensors["library"])

    def __getitems__(self, rows: list[int]) -> Batch:
        place = torch.as_tensor(rows)
        batch: Batch = {name: tensor[place] for name, tensor in self.tensors.items()}
        return batch | {"values": {k: v[place] for k, v in self.values.items()}}


class StepSampler(Sampler[list[int]]):
    """Shuffled batches without end; epoch e is a permutation drawn from (seed, e), each rank takes every world-th row.

    An iteration begins at the step that `current_step` tells and runs to the end of that epoch.
    """

    def __init__(self, n: int, batch_size: int, seed: int, current_step: Callable[[], int], rank: int, world: int):
        self.n, self.seed, self.current_step, self.rank, self.world = n, seed, current_step, rank, world
        self.batch_size = max(world, min(batch_size, n) // world * world)
        self.per_epoch = max(1, n // self.batch_size)

    def __len__(self) -> int:
        return self.per_epoch

    def __iter__(self) -> Iterator[list[int]]:
        epoch, first = divmod(self.current_step(), self.per_epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(self.n)
        for step in range(first, self.per_epoch):
            yield order[step * self.batch_size : (step + 1) * self.batch_size][self.rank :: self.world].tolist()


def train_loader(rows: Dataset, sampler: StepSampler, num_workers: int = 0, pin: bool = False) -> DataLoader:
    return DataLoader(
        rows,
        batch_sampler=sampler,
        collate_fn=lambda batch: batch,
        num_workers=num_workers,
        pin_memory=pin,
        persistent_workers=num_workers > 0,
    )


def ordered_loader(rows: Dataset, batch_size: int = 1024) -> DataLoader:
    """Every row once, in order: validation, encoding."""
    n = len(rows)
    batches = [list(range(i, min(i + batch_size, n))) for i in range(0, n, batch_size)]
    return DataLoader(rows, batch_sampler=batches, collate_fn=lambda batch: batch)


class StepNoise:
    """Random draws of one training step: a function of (seed, stage, step) and of a row's place in the global batch."""

    def __init__(self, key: tuple[int, ...], rank: int, world: int, device: torch.device):
        seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)
        self.generator = torch.Generator(device).manual_seed(seed)
        self.rank, self.world, self.device = rank, world, device

    def normal(self, n: int, *shape: int) -> Tensor:
        drawn = torch.randn(n * self.world, *shape, generator=self.generator, device=self.device)
        return drawn[self.rank :: self.world]

    def uniform(self, n: int, *shape: int) -> Tensor:
        drawn = torch.rand(n * self.world, *shape, generator=self.generator, device=self.device)
        return drawn[self.rank :: self.world]
