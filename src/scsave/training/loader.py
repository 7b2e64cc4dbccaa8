"""Rows of training cells, their batches, and the random draws of a step: functions of (seed, step).

They are the same on one process or many, after a resume or without one.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from scsave.data.conditions import Values
from scsave.models.model import SAVEModel
from scsave.progress import each
from scsave.training.pairs import Pairs
from scsave.training.set_shift import fit_set_shift

log = logging.getLogger("scsave")
ORDERED = 1024  # rows of a batch where all are read in order
Batch = dict[str, Any]  # tensors (B, ...) by name, and `values`: encoded conditions by column


class Rows(Protocol):
    """What a stage reads: cells in memory or cached latents; a reader of cells on disk has these two methods too."""

    def __len__(self) -> int: ...

    def __getitems__(self, rows: list[int]) -> Batch:
        """The batch of these rows, in this order; a DataLoader calls it once a batch."""


class CellRows(Dataset):
    """Cells in memory: CSR counts (N, G), made dense a batch at a time, library sizes (N,), encoded conditions.

    `groups` (N,) numbers the combination of conditions of each cell, inside which optimal transport pairs; `pairs` are the
    strata of control and treated cells.
    """

    def __init__(
        self,
        counts: sp.csr_matrix,
        library: np.ndarray,
        values: Values | None = None,
        groups: np.ndarray | None = None,
        pairs: Pairs | None = None,
    ):
        self.counts = sp.csr_matrix(counts, copy=not getattr(counts, "has_canonical_format", False))
        self.counts.sum_duplicates()  # `seen` names each count once, and a cell's genes in order
        self.library = torch.from_numpy(np.asarray(library, dtype=np.float32))
        self.values = values or {}
        self.pairs = pairs
        self.groups = torch.from_numpy(np.zeros(len(self), np.int64) if groups is None else groups)

    def __len__(self) -> int:
        return self.counts.shape[0]

    def batch(self, rows: Sequence[int] | np.ndarray) -> Batch:
        """`counts` (B, G) and `library` (B,) float32, `seen` (2, M) rows and genes of stored counts, `values`, `group` (B,)."""
        index = np.asarray(rows)
        counts = self.counts[index]
        dense = counts.toarray().astype(np.float32, copy=False)
        seen = np.stack([np.repeat(np.arange(len(index)), np.diff(counts.indptr)), counts.indices])
        batch = {"counts": torch.from_numpy(dense), "library": self.library[index], "group": self.groups[index]}
        batch["seen"] = torch.from_numpy(seen)
        return batch | {"values": {name: v[index] for name, v in self.values.items()}}

    __getitems__ = batch


class LatentRows(Dataset):
    """Cells as a finished encoder sees them: mu and logvar (N, L, d), library (N,), group (N,), conditions; on `device`."""

    @torch.no_grad()
    def __init__(self, model: SAVEModel, cells: Rows, device: torch.device):
        model.eval()
        pairs = getattr(cells, "pairs", None)
        self.pairs = pairs and pairs.to(device)
        self.tensors: Values = {}
        self.values: Values = {}
        start = 0
        for batch in each(in_order(cells), "encoding", "cells", ORDERED, len(cells)):
            library, group = batch["library"].to(device), batch["group"].to(device)
            q = model.encode(model.scaled(batch["counts"].to(device), library))
            part = slice(start, start := start + len(library))
            found = {"mu": q.mu, "logvar": q.logvar, "library": library, "group": group}
            for whole, own in ((self.tensors, found), (self.values, batch["values"])):
                for name, value in own.items():
                    if name not in whole:  # filled in place: parts and their sum would be twice the memory
                        whole[name] = torch.empty(len(cells), *value.shape[1:], dtype=value.dtype, device=device)
                    whole[name][part] = value

    def __len__(self) -> int:
        return len(self.tensors["library"])

    def __getitems__(self, rows: list[int]) -> Batch:
        place = torch.as_tensor(rows, device=self.tensors["library"].device)
        batch: Batch = {name: tensor[place] for name, tensor in self.tensors.items()}
        return batch | {"values": {name: v[place] for name, v in self.values.items()}}

    @torch.no_grad()
    def flow(self, model: SAVEModel, place: Tensor) -> Tensor:
        """Posterior means of the cells at `place` in the space of the flow, (M, D)."""
        return model.to_flow(self.tensors["mu"][place], self.tensors["library"][place])

    def set_shifts(self, model: SAVEModel, seed: int, penalty: Tensor | None = None) -> None:
        """Give the velocity network the shift of each level (or target), its mean over the strata, or of sets of genes.

        `penalty` of the latter's fit; None: chosen on sets held out.
        """
        if model.velocity.shift is None:
            self._set_levels(model)
        else:
            self._set_sets(model, seed, penalty)

    def _set_sets(self, model: SAVEModel, seed: int, penalty: Tensor | None) -> None:
        with torch.no_grad():
            changes = torch.stack([self.flow(model, treated).mean(0) - self.flow(model, control).mean(0)
                                   for control, treated in zip(self.pairs.control, self.pairs.treated, strict=True)])  # fmt: skip
            changes[:, -1] = 0.0  # cells keep their library size
        cells = [1 / (1 / len(c) + 1 / len(t)) for c, t in zip(self.pairs.control, self.pairs.treated, strict=True)]
        first = torch.stack([treated[0] for treated in self.pairs.treated])
        values = {name: value[first] for name, value in self.values.items()}
        weight = torch.tensor(cells, device=changes.device)
        with torch.enable_grad():
            fit_set_shift(model.velocity.shift, values, changes, weight, self.pairs.names, seed, penalty)
        log.info(
            "shift of sets of genes: penalties %s of a gene's own part, %s of what vectors say",
            *model.velocity.shift.penalty.tolist(),
        )

    @torch.no_grad()
    def _set_levels(self, model: SAVEModel) -> None:
        column = model.velocity.perturbation
        if len(model.velocity.shifts) < 2:  # no column of levels
            return
        found: dict[int, list[Tensor]] = {}
        by_target = len(model.velocity.told) > 1
        for control, treated, target in zip(self.pairs.control, self.pairs.treated, self.pairs.targets, strict=True):
            change = self.flow(model, treated).mean(0) - self.flow(model, control).mean(0)  # (D,)
            row = target if by_target else int(self.values[column][treated[0]])
            found.setdefault(row, []).append(change)
        for level, changes in found.items():
            model.velocity.shifts[level] = torch.stack(changes).mean(0)
        model.velocity.shifts[:, -1] = 0.0  # cells keep their library size

    @torch.no_grad()
    def standardise(self, model: SAVEModel, noise: float) -> None:
        """Let `model.to_flow` bring these cells to mean 0 and spread 1, the posterior's own variance counted in."""
        mu, library = self.tensors["mu"].flatten(1), self.tensors["library"].log()[:, None]  # (N, L * d), (N, 1)
        variance = self.tensors["logvar"].flatten(1).exp() * noise**2
        std = torch.cat([(mu.var(0, correction=0) + variance.mean(0)), library.var(0, correction=0)]).sqrt()
        model.flow_mean.copy_(torch.cat([mu.mean(0), library.mean(0)]))
        model.flow_std.copy_(std.clamp(min=1e-3))


class StepSampler(Sampler[list[int]]):
    """Shuffled batches without end; epoch e is a permutation drawn from (seed, e), each rank takes every world-th row.

    An iteration begins at the step that `current_step` gives and runs to the end of that epoch.
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


def loader(rows: Rows, batches: Iterable[list[int]], num_workers: int = 0, pin: bool = False) -> DataLoader:
    if isinstance(rows, LatentRows):  # they lie on the device, where other processes can't read them
        num_workers, pin = 0, False
    workers = {"num_workers": num_workers, "persistent_workers": num_workers > 0}
    return DataLoader(rows, batch_sampler=batches, collate_fn=_whole, pin_memory=pin, **workers)


def _whole(batch: Batch) -> Batch:
    """What `__getitems__` gave is a batch already."""
    return batch


def in_order(rows: Rows, size: int = ORDERED) -> DataLoader:
    """Every row once: validation, encoding."""
    n = len(rows)
    return loader(rows, [list(range(i, min(i + size, n))) for i in range(0, n, size)])


class StepNoise:
    """Random draws of one training step: a function of (seed, stage, step) and of a row's place in the global batch."""

    def __init__(self, key: tuple[int, ...], rank: int, world: int, device: torch.device):
        seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)
        self.generator = torch.Generator(device).manual_seed(seed)
        own = seed if world == 1 else int(np.random.SeedSequence((*key, rank)).generate_state(1, np.uint64)[0] >> 1)
        self.own = torch.Generator(device).manual_seed(own ^ 1)  # of this process, for draws that can't be shared out
        self.rank, self.world, self.device = rank, world, device

    def normal(self, n: int, *shape: int) -> Tensor:
        drawn = torch.randn(n * self.world, *shape, generator=self.generator, device=self.device)
        return drawn[self.rank :: self.world]

    def uniform(self, n: int, *shape: int) -> Tensor:
        drawn = torch.rand(n * self.world, *shape, generator=self.generator, device=self.device)
        return drawn[self.rank :: self.world]
