"""What an objective of the flow is: a path from noise to latents, the loss along it, and sampling with what it learned."""

from abc import abstractmethod
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from scsave.flow.solver import Solver, VectorField


class PathSample(NamedTuple):
    """A point of the path, its time, and what the network should say there."""

    t: Tensor  # (N,)
    x_t: Tensor  # (N, D)
    target: Tensor  # (N, D)


class Objective(Protocol):
    """Option of the config group `objective`. Time runs from noise at t = 0 to data at t = 1."""

    @abstractmethod
    def path(self, x_1: Tensor, groups: Tensor, t: Tensor, x_0: Tensor, rng: torch.Generator) -> PathSample:
        """The training point at times `t` (N,) between noise `x_0` and latents `x_1` (N, D) with condition ids `groups`."""

    @abstractmethod
    def sample(self, field: VectorField, x_0: Tensor, solver: Solver) -> tuple[Tensor, int]:
        """Noise (N, D) to latents, and the number of evaluations of the field."""

    @abstractmethod
    def invert(self, field: VectorField, x_1: Tensor, solver: Solver) -> tuple[Tensor, int]:
        """Latents back to the noise that they come from, under the field's condition."""

    def loss(
        self, field: VectorField, x_1: Tensor, groups: Tensor, t: Tensor, x_0: Tensor, rng: torch.Generator
    ) -> Tensor:
        """Mean square of what `field` says at the point of the path less the target there, a scalar."""
        point = self.path(x_1, groups, t, x_0, rng)
        return (field(point.x_t, point.t) - point.target).square().mean()
