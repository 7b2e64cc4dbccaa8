"""Latent diffusion with the same network (method.md section 3: the reviews ask why flow matching).

DDPM training (Ho et al. 2020) with the cosine schedule (Nichol & Dhariwal 2021), the network predicting the noise;
deterministic DDIM sampling (Song et al. 2021). Time runs as in the flow: t = 0 is noise, t = 1 is data.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from pydantic import PositiveFloat
from torch import Tensor

from scsave.flow.objective import Objective, PathSample
from scsave.flow.solver import Solver, VectorField


@dataclass(kw_only=True)
class DDPM(Objective):
    """`x_t = sqrt(a) x_1 + sqrt(1 - a) noise` with `a = alpha_bar(t)`; the target is the noise."""

    offset: PositiveFloat = 0.008

    def alpha_bar(self, t: Tensor) -> Tensor:
        """Share of signal at flow time t in [0, 1]: close to 0 at t = 0, 1 at t = 1."""
        angle = ((1 - t) + self.offset) / (1 + self.offset) * (math.pi / 2)
        return (angle.cos() / math.cos(self.offset / (1 + self.offset) * math.pi / 2)).square().clamp(1e-5, 1 - 1e-5)

    def path(self, x_1: Tensor, groups: Tensor, t: Tensor, x_0: Tensor, rng: torch.Generator) -> PathSample:
        a = self.alpha_bar(t)[:, None]
        return PathSample(t, a.sqrt() * x_1 + (1 - a).sqrt() * x_0, x_0)

    def _ddim(self, field: VectorField, x: Tensor, times: Tensor) -> tuple[Tensor, int]:
        for t, t_next in pairwise(times):
            a, a_next = self.alpha_bar(t), self.alpha_bar(t_next)
            noise = field(x, t.expand(len(x)))
            clean = (x - (1 - a).sqrt() * noise) / a.sqrt()
            x = a_next.sqrt() * clean + (1 - a_next).sqrt() * noise
        return x, len(times) - 1

    def sample(self, field: VectorField, x_0: Tensor, solver: Solver) -> tuple[Tensor, int]:
        """DDIM with `solver.steps` steps; the solver's method plays no part."""
        # at t = 0 exactly there is no signal to divide by
        times = torch.linspace(0.0, 1.0, solver.steps + 1, device=x_0.device).clamp(min=0.5 / solver.steps)
        return self._ddim(field, x_0, times)

    # DDIM is deterministic, and so can be run backwards
    def invert(self, field: VectorField, x_1: Tensor, solver: Solver) -> tuple[Tensor, int]:
        times = torch.linspace(1.0, 0.0, solver.steps + 1, device=x_1.device).clamp(min=0.5 / solver.steps)
        return self._ddim(field, x_1, times)
