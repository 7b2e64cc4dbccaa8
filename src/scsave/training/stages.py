"""The stages of a training: what each learns, from which rows, and by which loss (method.md section 5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Protocol, get_args

import torch
from pydantic import Field
from torch import Tensor, nn

from scsave.flow.objective import Objective
from scsave.models.model import SAVEModel
from scsave.models.networks import Posterior
from scsave.training.loader import Batch, StepNoise

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]
Networks = Literal["none", "autoencoder", "flow"]  # what a task needs trained; each needs those before it
Losses = dict[str, Tensor]  # named scalars, among them `loss`


class Weights(Protocol):
    """What the losses weigh and hide: part of the options of a plan, which says what each is."""

    kl_weight: float
    kl_warmup: float
    mask_rate: float
    joint_mask_rate: float
    decoder_mask_rate: float
    input_dropout: float
    latent_noise: float


@dataclass(frozen=True)
class Step:
    """What a loss is computed with, beside the batch."""

    model: SAVEModel
    objective: Objective
    weights: Weights
    noise: StepNoise
    number: int  # optimiser steps of the stage before this one
    steps: int  # of the whole stage
    training: bool
    mean: Callable[[Tensor], Tensor]  # over the processes of the run


@dataclass(kw_only=True)
class Stage:
    """A part of the training with its own rows, loss and learning rate. A new kind derives from this."""

    steps: Positive
    batch_size: Positive = 128
    lr: Rate = 1e-3
    then: Any = None  # a further `Stage` behind this one, where it stands under training.then itself

    name: ClassVar[str]
    number: ClassVar[int]  # keys the random draws: two stages of a plan must not share it
    reads: ClassVar[Literal["cells", "latents"]] = "cells"  # latents: cached posteriors of a finished autoencoder
    needed_for: ClassVar[Networks] = "autoencoder"  # left out where a task needs less than this
    lr_key: ClassVar[str] = "training.lr"  # what to lower when the loss is not finite

    def trained(self, model: SAVEModel) -> list[nn.Module]:
        """The modules that learn; all others get no gradient."""
        raise NotImplementedError

    def averaged(self, model: SAVEModel) -> nn.Module | None:
        """The module of which a moving average is validated and kept, if any."""
        return None

    def losses(self, step: Step, batch: Batch) -> Losses:
        raise NotImplementedError

    def needed(self, networks: Networks) -> bool:
        order = get_args(Networks)
        return order.index(networks) >= order.index(self.needed_for)


@dataclass(kw_only=True)
class AutoencoderStage(Stage):
    """Reconstruction and KL."""

    name, number = "autoencoder", 1

    def trained(self, model: SAVEModel) -> list[nn.Module]:
        return model.autoencoder()

    def losses(self, step: Step, batch: Batch) -> Losses:
        return autoencoder_losses(step, batch)[0]


@dataclass(kw_only=True)
class FlowStage(Stage):
    """The objective of the flow, on cached posteriors."""

    name, number = "flow", 2
    reads, needed_for, lr_key = "latents", "flow", "training.flow_lr"

    def trained(self, model: SAVEModel) -> list[nn.Module]:
        return [model.velocity]

    def averaged(self, model: SAVEModel) -> nn.Module:
        return model.velocity

    def losses(self, step: Step, batch: Batch) -> Losses:
        return {"loss": flow_loss(step, Posterior(batch["mu"], batch["logvar"]), batch)}


@dataclass(kw_only=True)
class JointStage(Stage):
    """The paper's sum: reconstruction + KL + flow matching, the flow seeing detached latents."""

    name, number = "joint", 3

    def trained(self, model: SAVEModel) -> list[nn.Module]:
        return [model]

    def averaged(self, model: SAVEModel) -> nn.Module:
        return model.velocity

    def losses(self, step: Step, batch: Batch) -> Losses:
        losses, posterior = autoencoder_losses(step, batch)
        detached = Posterior(posterior.mu.detach().float(), posterior.logvar.detach().float())
        if step.training:
            self._follow(step, detached, batch["library"])
        flow = flow_loss(step, detached, batch)
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


def autoencoder_losses(step: Step, batch: Batch) -> tuple[Losses, Posterior]:
    """Reconstruction and KL of a batch, and the posterior; divided by the genes, as gradients should not depend on them."""
    model, noise, counts, library = step.model, step.noise, batch["counts"], batch["library"]
    scaled = model.scaled(counts, library)  # (N, G)
    posterior = model.encode(shown(step, scaled))
    z = posterior.sample(noise.normal(*posterior.mu.shape))  # (N, L, d)
    given = model.decoder_conditions.conditions
    values = {name: batch["values"][name] for name in given.names}
    where = noise.uniform(len(z), len(given.columns)) < step.weights.decoder_mask_rate  # (N, C)
    cells = model.likelihood(model.decode(z, given.mask(values, where)).float(), library)
    reconstruction = -cells.log_prob(counts if cells.space == "counts" else scaled).mean()
    kl, kl_weight = posterior.kl().mean(), step.weights.kl_weight
    if step.training:  # free at first, so that the latent is used before it is taxed
        kl_weight *= min(1.0, step.number / max(1, step.weights.kl_warmup * step.steps))
    loss = (reconstruction + kl_weight * kl) / counts.shape[1]
    return {"loss": loss, "reconstruction": reconstruction.detach(), "kl": kl.detach()}, posterior


def shown(step: Step, scaled: Tensor) -> Tensor:
    """What the encoder sees of cells (N, G): in training not every gene, or it would learn cells by heart."""
    rate = step.weights.input_dropout
    if not (step.training and rate):
        return scaled
    return scaled.masked_fill(step.noise.uniform(*scaled.shape) < rate, 0.0) / (1 - rate)


def flow_loss(step: Step, posterior: Posterior, batch: Batch) -> Tensor:
    """The objective's loss of a batch of latents, conditions masked."""
    model, noise, n = step.model, step.noise, len(posterior.mu)
    z = posterior.sample(step.weights.latent_noise * noise.normal(*posterior.mu.shape))  # (N, L, d)
    x_1 = model.to_flow(z, batch["library"])  # (N, D)
    t, x_0 = noise.uniform(n), noise.normal(n, x_1.shape[1])  # (N,), (N, D)

    def field(x: Tensor, t: Tensor) -> Tensor:
        return model.velocity(x, t, model.conditions.mask(batch["values"], masked(step, n)))  # (N, D)

    return step.objective.loss(field, x_1, batch["group"], t, x_0, noise.generator)


def masked(step: Step, n: int) -> Tensor:
    """Which conditions of which cells the flow sees as [MASK], (N, C): each by itself, and all of a cell together."""
    where = step.noise.uniform(n, len(step.model.conditions.columns)) < step.weights.mask_rate
    if step.weights.joint_mask_rate:
        where = where | (step.noise.uniform(n, 1) < step.weights.joint_mask_rate)
    return where
