"""The stages of a training: what each learns, from which rows, how long, and by which loss (method.md sections 5 and 9)."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from scsave.models.model import SAVEModel
from scsave.models.networks import Posterior
from scsave.training.loader import Batch, LatentRows
from scsave.training.losses import Losses, Step, autoencoder_losses, flow_losses, head_losses, noise_loss

# Parts of a model that can be asked for: the flow from noise and the flow from cells are one network, trained on either.
PARTS = ("autoencoder", "noise", "cells", "head")


@dataclass(frozen=True)
class Length:
    """Optimiser steps: `steps`, or where that is None so many passes over the cells, but at least and at most so many."""

    steps: int | None
    passes: float
    least: int
    most: int

    def of(self, n: int, batch_size: int) -> int:
        """Steps for `n` cells."""
        return self.steps or int(min(max(self.passes * n / min(batch_size, n), self.least), self.most))


@dataclass(kw_only=True)
class Stage:
    """A part of the training with its own rows, loss and learning rate. A new kind derives from this."""

    steps: PositiveInt | Length
    batch_size: PositiveInt = 128
    lr: PositiveFloat = 1e-3
    converges: bool = False  # may end before its steps, when the validation score has flattened
    then: Any = None  # a further `Stage` behind this one, where it stands under training.then itself

    name: ClassVar[str]
    number: ClassVar[int]  # keys the random draws: two stages of a plan must not share it
    reads: ClassVar[Literal["cells", "latents"]] = "cells"  # latents: cached posteriors of a finished autoencoder
    needed_for: ClassVar[frozenset[str]] = frozenset(PARTS)  # left out where none of these parts is asked for
    gives: ClassVar[frozenset[str]] = frozenset()  # parts that are trained when it has run
    lr_key: ClassVar[str] = "training.lr"  # what to lower when the loss is not finite

    def length(self, n: int) -> int:
        """Steps for `n` training cells."""
        return self.steps.of(n, self.batch_size) if isinstance(self.steps, Length) else self.steps

    def trained(self, model: SAVEModel) -> list[nn.Module | nn.Parameter]:
        """What learns; all else gets no gradient. Nothing: the stage is left out."""
        raise NotImplementedError

    def averaged(self, model: SAVEModel) -> nn.Module | None:
        """The module of which a moving average is validated and kept, if any."""
        return None

    def prepare(self, model: SAVEModel, rows: LatentRows, weights: Any, parts: frozenset[str]) -> None:
        """Before the first step of a stage that reads latents."""

    def losses(self, step: Step, batch: Batch) -> Losses:
        raise NotImplementedError

    def needed(self, parts: frozenset[str]) -> bool:
        return bool(self.needed_for & parts)


@dataclass(kw_only=True)
class AutoencoderStage(Stage):
    """Reconstruction and KL."""

    converges: bool = True
    name, number = "autoencoder", 1
    gives = frozenset({"autoencoder"})

    def trained(self, model: SAVEModel) -> list[nn.Module | nn.Parameter]:
        return model.autoencoder()

    def losses(self, step: Step, batch: Batch) -> Losses:
        return autoencoder_losses(step, batch)[0]


@dataclass(kw_only=True)
class FlowStage(Stage):
    """Flow matching on cached posteriors: from noise, from control cells, or both."""

    name, number = "flow", 2
    reads, lr_key = "latents", "training.flow_lr"
    needed_for = gives = frozenset({"noise", "cells"})

    def trained(self, model: SAVEModel) -> list[nn.Module | nn.Parameter]:
        return [model.velocity]

    def averaged(self, model: SAVEModel) -> nn.Module:
        return model.velocity

    def prepare(self, model: SAVEModel, rows: LatentRows, weights: Any, parts: frozenset[str]) -> None:
        rows.standardise(model, weights.latent_noise)
        if "cells" in parts:
            rows.set_shifts(model)

    def losses(self, step: Step, batch: Batch) -> Losses:
        return flow_losses(step, batch)


@dataclass(kw_only=True)
class HeadStage(Stage):
    """The integration head on cached posteriors."""

    name, number = "head", 5
    reads, lr_key = "latents", "training.head_lr"
    needed_for = gives = frozenset({"head"})

    def trained(self, model: SAVEModel) -> list[nn.Module | nn.Parameter]:
        return [model.head] if model.head is not None else []

    def prepare(self, model: SAVEModel, rows: LatentRows, weights: Any, parts: frozenset[str]) -> None:
        mu, logvar = rows.tensors["mu"].flatten(1), rows.tensors["logvar"].flatten(1)
        model.head.mean.copy_(mu.mean(0))
        model.head.std.copy_((mu.var(0) + logvar.exp().mean(0)).sqrt().clamp(min=1e-3))

    def losses(self, step: Step, batch: Batch) -> Losses:
        return head_losses(step, batch)


@dataclass(kw_only=True)
class JointStage(Stage):
    """The paper's sum: reconstruction + KL + flow matching, the flow seeing detached latents."""

    name, number = "joint", 3
    gives = frozenset({"autoencoder", "noise"})

    def trained(self, model: SAVEModel) -> list[nn.Module | nn.Parameter]:
        return [*model.autoencoder(), model.velocity]

    def averaged(self, model: SAVEModel) -> nn.Module:
        return model.velocity

    def losses(self, step: Step, batch: Batch) -> Losses:
        losses, posterior = autoencoder_losses(step, batch)
        detached = Posterior(posterior.mu.detach().float(), posterior.logvar.detach().float())
        if step.training:
            self._follow(step, detached, batch["library"])
        flow = noise_loss(step, detached, batch)
        return losses | {"loss": losses["loss"] + flow, "flow": flow.detach()}

    def _follow(self, step: Step, posterior: Posterior, library: Tensor) -> None:
        """Running mean and spread of the latent, the same on every process."""
        model = step.model
        x = torch.cat([posterior.mu.flatten(1), library.log()[:, None]], dim=-1)  # (N, D)
        square = torch.cat([posterior.logvar.exp().flatten(1), torch.zeros_like(library)[:, None]], dim=-1) + x**2
        mean, second = step.mean(x.mean(0)), step.mean(square.mean(0))  # (D,) each
        std = (second - mean**2).clamp(min=1e-8).sqrt()
        rate = max(0.01, 1 / (1 + step.number))
        model.flow_mean.lerp_(mean, rate)
        model.flow_std.lerp_(std, rate)
