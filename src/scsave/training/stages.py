"""The stages of a training: what each learns, from which rows, and by which loss (method.md section 5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, get_args

import torch
from pydantic import Field
from torch import Tensor, nn

from scsave.flow.objective import Objective
from scsave.models.model import SAVEModel
from scsave.models.networks import Posterior
from scsave.training.loader import Batch, LatentRows, Rows, StepNoise

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Networks = Literal["none", "autoencoder", "flow"]  # what a task needs trained; each needs those before it
Losses = dict[str, Tensor]  # named scalars, among them `loss`


@dataclass(frozen=True)
class Step:
    """What a loss is computed with, beside the batch."""

    model: SAVEModel
    objective: Objective
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
    needed_for: ClassVar[Networks] = "autoencoder"  # left out where a task needs less than this
    lr_key: ClassVar[str] = "training.lr"  # what to lower when the loss is not finite

    def rows(self, model: SAVEModel, train: Rows, val: Rows | None, device: torch.device) -> tuple[Rows, Rows | None]:
        """What the stage reads: the cells themselves, unless it overrides this."""
        return train, val

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
    """Reconstruction and KL, divided by the number of genes, so that the size of a gradient does not depend on it."""

    kl_weight: Weight = 1.0
    kl_warmup: Share = 0.5
    decoder_mask_rate: Share = 0.1
    input_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    name, number = "autoencoder", 1

    def trained(self, model: SAVEModel) -> list[nn.Module]:
        return model.autoencoder()

    def losses(self, step: Step, batch: Batch) -> Losses:
        return self.with_posterior(step, batch)[0]

    def with_posterior(self, step: Step, batch: Batch) -> tuple[Losses, Posterior]:
        """The losses of a batch, and the posterior that they were computed with."""
        model, noise, counts, library = step.model, step.noise, batch["counts"], batch["library"]
        scaled = model.scaled(counts, library)  # (N, G)
        posterior = model.encode(self._seen(scaled, step))
        z = posterior.sample(noise.normal(*posterior.mu.shape))  # (N, L, d)
        given = model.decoder_conditions.conditions
        values = {name: batch["values"][name] for name in given.names}
        where = noise.uniform(len(z), len(given.columns)) < self.decoder_mask_rate  # (N, C)
        cells = model.likelihood(model.decode(z, given.mask(values, where)).float(), library)
        reconstruction = -cells.log_prob(counts if cells.space == "counts" else scaled).mean()
        kl, kl_weight = posterior.kl().mean(), self.kl_weight
        if step.training:  # free at first, so that the latent is used before it is taxed
            kl_weight *= min(1.0, step.number / max(1, self.kl_warmup * step.steps))
        loss = (reconstruction + kl_weight * kl) / counts.shape[1]
        return {"loss": loss, "reconstruction": reconstruction.detach(), "kl": kl.detach()}, posterior

    def _seen(self, scaled: Tensor, step: Step) -> Tensor:
        """What the encoder sees of cells (N, G): in training not every gene, or it would learn cells by heart."""
        if not (step.training and self.input_dropout):
            return scaled
        hidden = step.noise.uniform(*scaled.shape) < self.input_dropout
        return scaled.masked_fill(hidden, 0.0) / (1 - self.input_dropout)


@dataclass(kw_only=True)
class FlowStage(Stage):
    """The objective of the flow on the cached posteriors of a finished autoencoder."""

    mask_rate: Share = 0.2
    joint_mask_rate: Share = 0.0
    latent_noise: Weight = 1.0
    name, number = "flow", 2
    needed_for, lr_key = "flow", "training.flow_lr"

    def trained(self, model: SAVEModel) -> list[nn.Module]:
        return [model.velocity]

    def averaged(self, model: SAVEModel) -> nn.Module:
        return model.velocity

    def rows(self, model: SAVEModel, train: Rows, val: Rows | None, device: torch.device) -> tuple[Rows, Rows | None]:
        """Latents of the cells, which `to_flow` brings to mean 0 and spread 1 from here on."""
        model.to(device)
        latents = LatentRows(model, train, device)
        standardise(model, latents, self.latent_noise)
        return latents, LatentRows(model, val, device) if val else val

    def losses(self, step: Step, batch: Batch) -> Losses:
        return {"loss": self.loss(step, Posterior(batch["mu"], batch["logvar"]), batch)}

    def loss(self, step: Step, posterior: Posterior, batch: Batch) -> Tensor:
        model, noise, n = step.model, step.noise, len(posterior.mu)
        z = posterior.sample(self.latent_noise * noise.normal(*posterior.mu.shape))  # (N, L, d)
        x_1 = model.to_flow(z, batch["library"])  # (N, D)
        t, x_0 = noise.uniform(n), noise.normal(n, x_1.shape[1])  # (N,), (N, D)

        def field(x: Tensor, t: Tensor) -> Tensor:
            return model.velocity(x, t, model.conditions.mask(batch["values"], self.masked(step, n)))  # (N, D)

        return step.objective.loss(field, x_1, batch["group"], t, x_0, noise.generator)

    def masked(self, step: Step, n: int) -> Tensor:
        """Which columns of which cells are told as [MASK], (N, C): each for itself, and all of a cell together."""
        where = step.noise.uniform(n, len(step.model.conditions.columns)) < self.mask_rate
        if self.joint_mask_rate:
            where = where | (step.noise.uniform(n, 1) < self.joint_mask_rate)
        return where


@dataclass(kw_only=True)
class JointStage(Stage):
    """The paper's sum: reconstruction + KL + flow matching, the flow seeing detached latents."""

    autoencoder: AutoencoderStage
    flow: FlowStage
    name, number = "joint", 3

    def trained(self, model: SAVEModel) -> list[nn.Module]:
        return [model]

    def averaged(self, model: SAVEModel) -> nn.Module:
        return model.velocity

    def losses(self, step: Step, batch: Batch) -> Losses:
        losses, posterior = self.autoencoder.with_posterior(step, batch)
        detached = Posterior(posterior.mu.detach().float(), posterior.logvar.detach().float())
        if step.training:
            self._follow(step, detached, batch["library"])
        flow = self.flow.loss(step, detached, batch)
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


@torch.no_grad()
def standardise(model: SAVEModel, latents: LatentRows, noise: float) -> None:
    """Latents to mean 0 and spread 1 on training cells, the posterior's own variance counted in."""
    mu, variance = latents.tensors["mu"].flatten(1), latents.tensors["logvar"].flatten(1).exp() * noise**2  # (N, L * d)
    library = latents.tensors["library"].log()[:, None]  # (N, 1)
    std = torch.cat([(mu.var(0, correction=0) + variance.mean(0)), library.var(0, correction=0)]).sqrt()
    model.flow_mean.copy_(torch.cat([mu.mean(0), library.mean(0)]))
    model.flow_std.copy_(std.clamp(min=1e-3))
