"""Solve `dx/dt = v(x, t)` (method.md section 3); torchdiffeq does the integration."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

VectorField = Callable[[Tensor, Tensor], Tensor]  # (x (N, D), t (N,)) -> (N, D)


@dataclass(kw_only=True)
class Solver:
    """Fixed-step (`euler`, `midpoint`, `rk4`, with `steps`) or adaptive (`dopri5`, with tolerances)."""

    method: Literal["euler", "midpoint", "rk4", "dopri5"] = "euler"
    steps: PositiveInt = 50
    rtol: PositiveFloat = 1e-4
    atol: PositiveFloat = 1e-4

    def integrate(self, field: VectorField, x: Tensor, start: float = 0.0, end: float = 1.0) -> tuple[Tensor, int]:
        """The solution at `end` of the path that is `x` (N, D) at `start`, and the number of evaluations of `field`."""
        from torchdiffeq import odeint

        evaluations = 0

        def rhs(t: Tensor, x: Tensor) -> Tensor:
            nonlocal evaluations
            evaluations += 1
            return field(x, t.expand(len(x)))

        times = torch.tensor([start, end], dtype=x.dtype, device=x.device)
        if self.method == "dopri5":
            path = odeint(rhs, x, times, method="dopri5", rtol=self.rtol, atol=self.atol)
        else:
            path = odeint(rhs, x, times, method=self.method, options={"step_size": abs(end - start) / self.steps})
        return path[-1], evaluations
