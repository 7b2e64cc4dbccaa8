"""The stages of a training: what each learns, from which rows, how long, and by which loss (method.md sections 5 and 9)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from scsave.data.conditions import Values
from scsave.flow.objective import Objective
from scsave.flow.paths import OTCFM
from scsave.models.model import SAVEModel, dense
from scsave.models.networks import Posterior
from scsave.training.length import Length
from scsave.training.loader import Batch, LatentRows, Rows, StepNoise

Losses = dict[str, Tensor]  # named scalars, among them `loss`
# Parts of a model that can be asked for: the flow from noise and the flow from cells are one network, trained on either.
PARTS = ("autoencoder", "noise", "cells", "head")


@dataclass(frozen=True)
class Step:
    """What a loss is computed with, beside the batch."""

    model: SAVEModel
    objective: Objective
    weights: Any  # what the losses weigh and hide: a `scsave.training.plan.Plan`
    noise: StepNoise
    number: int  # optimiser steps of the stage before this one
    steps: int  # of the whole stage
    training: bool
    parts: frozenset[str]  # of the model that are asked for: see `PARTS`
    rows: Rows  # of the stage
    mean: Callable[[Tensor], Tensor]  # over the processes of the run

    def warm(self, weight: float, share: float) -> float:
        """`weight`, in training growing from 0 over the first `share` of the steps."""
        return weight * min(1.0, self.number / max(1, share * self.steps)) if self.training else weight


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

    def length(self, n: int, parts: frozenset[str]) -> int:
        """Steps for `n` training cells and the parts of the model that are asked for."""
        return self.steps.of(n, self.batch_size) if isinstance(self.steps, Length) else self.steps

    def trained(self, model: SAVEModel) -> list[nn.Module | nn.Parameter]:
        """What learns; all else gets no gradient. Nothing: the stage is left out."""
        raise NotImplementedError

    def averaged(self, model: SAVEModel) -> nn.Module | None:
        """The module of which a moving average is validated and kept, if any."""
        return None

    def prepare(self, model: SAVEModel, rows: LatentRows, weights: Any, parts: frozenset[str], seed: int) -> None:
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
    """Flow matching on cached posteriors: from noise, from control cells, or both.

    The flow from cells takes `cells_steps` of the steps at most, spread evenly: a longer one knows its strata by heart.
    """

    cells_steps: int
    name, number = "flow", 2
    reads, lr_key = "latents", "training.flow_lr"
    needed_for = gives = frozenset({"noise", "cells"})

    def trained(self, model: SAVEModel) -> list[nn.Module | nn.Parameter]:
        return [model.velocity]

    def averaged(self, model: SAVEModel) -> nn.Module:
        return model.velocity

    def prepare(self, model: SAVEModel, rows: LatentRows, weights: Any, parts: frozenset[str], seed: int) -> None:
        rows.standardise(model, weights.latent_noise)
        if "cells" in parts:
            rows.set_shifts(model, seed)

    def length(self, n: int, parts: frozenset[str]) -> int:
        steps = super().length(n, parts)
        return steps if "noise" in parts else min(steps, self.cells_steps)

    def due(self, step: Step) -> bool:
        """Is this a step of the flow from cells?"""
        many = min(self.cells_steps, step.steps)
        return (step.number + 1) * many // step.steps > step.number * many // step.steps

    def losses(self, step: Step, batch: Batch) -> Losses:
        losses = {}
        if "noise" in step.parts:
            losses["noise"] = noise_loss(step, Posterior(batch["mu"], batch["logvar"]), batch)
        if "cells" in step.parts and step.training and self.due(step):
            losses["cells"] = cells_loss(step)
        total = sum(losses.values(), torch.zeros((), device=step.noise.device))
        return {"loss": total} | {name: value.detach() for name, value in losses.items()}


@dataclass(kw_only=True)
class HeadStage(Stage):
    """The integration head on cached posteriors."""

    name, number = "head", 5
    reads, lr_key = "latents", "training.head_lr"
    needed_for = gives = frozenset({"head"})

    def trained(self, model: SAVEModel) -> list[nn.Module | nn.Parameter]:
        return [model.head] if model.head is not None else []

    def prepare(self, model: SAVEModel, rows: LatentRows, weights: Any, parts: frozenset[str], seed: int) -> None:
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
            step.model.follow(detached, batch["library"], max(0.01, 1 / (1 + step.number)), step.mean)
        flow = noise_loss(step, detached, batch)
        return losses | {"loss": losses["loss"] + flow, "flow": flow.detach()}


# --- The losses ---


def autoencoder_losses(step: Step, batch: Batch) -> tuple[Losses, Posterior]:
    """Reconstruction and KL of a batch, and the posterior; divided by the genes, as gradients should not depend on them.

    In training the encoder sees thinned cells and the decoder is asked for all of their counts. In validation it sees
    half of the counts and is asked for the other half, which an encoder that copies noise is no better at.
    """
    model, counts, library = step.model, batch["counts"], batch["library"]
    thinned = step.weights.thinning < 1 and model.likelihood.space == "counts"
    known = model.likelihood.space == "counts" and "seen" in batch  # which counts are not zero need not be searched
    share = torch.ones_like(library)  # (N,)
    if thinned:
        seen = batch["seen"] if known else (counts != 0).nonzero().T
        kept, share = thin(step, counts, seen)  # (M,), (N,)
    if thinned and not step.weights.input_dropout:
        posterior = model.encoder(model.scaled_blocks(seen, kept, library * share))
    else:
        visible = dense(counts, seen, kept) if thinned else counts  # (N, G)
        posterior = model.encode(shown(step, model.scaled(visible, library * share)))
    z = posterior.sample(step.noise.normal(*posterior.mu.shape)) if step.training or not thinned else posterior.mu
    if thinned and not step.training:
        counts, library = counts - dense(counts, seen, kept), library * (1 - share)
    cells = model.likelihood(model.decode(z, decoder_values(step, batch)).float(), library)
    target = counts if cells.space == "counts" else model.scaled(counts, library)
    reconstruction = -(cells.log_prob_at(target, batch["seen"]) if known else cells.log_prob(target)).mean()
    kl, kl_weight = posterior.kl().mean(), step.warm(step.weights.kl_weight, step.weights.kl_warmup)
    kl_weight = 0.0 if thinned and not step.training else kl_weight
    loss = (reconstruction + kl_weight * kl) / counts.shape[1]
    return {"loss": loss, "reconstruction": reconstruction.detach(), "kl": kl.detach()}, posterior


def thin(step: Step, counts: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """How many of the counts (N, G) at rows and genes `seen` (2, M) are kept, (M,), and each cell's probability (N,).

    The probability is drawn from [p, 1]; half in validation. Several processes agree with one in distribution only.
    """
    p = step.weights.thinning
    share = step.noise.uniform(len(counts)) * (1 - p) + p if step.training else torch.full_like(counts[:, 0], 0.5)
    (rows, genes), flat = seen, counts.flatten()
    number = flat.index_select(0, rows * counts.shape[1] + genes)  # (M,)
    return torch.binomial(number, share.index_select(0, rows).to(counts), generator=step.noise.own), share


def shown(step: Step, scaled: Tensor) -> Tensor:
    """What the encoder sees of cells (N, G): with `input_dropout`, in training not every gene."""
    rate = step.weights.input_dropout
    if not (step.training and rate):
        return scaled
    return scaled.masked_fill(step.noise.uniform(*scaled.shape) < rate, 0.0) / (1 - rate)


def decoder_values(step: Step, batch: Batch) -> Values:
    """The decoder's conditions of a batch; in training some of them masked."""
    given = step.model.decoder_conditions.conditions
    values = {name: batch["values"][name] for name in given.names}
    where = step.noise.uniform(len(batch["library"]), len(given.columns)) < step.weights.decoder_mask_rate  # (N, C)
    return given.mask(values, where) if step.training else values


def noise_loss(step: Step, posterior: Posterior, batch: Batch) -> Tensor:
    """The objective's loss of a batch of latents on paths from noise, conditions masked."""
    model, noise, n = step.model, step.noise, len(posterior.mu)
    z = posterior.sample(step.weights.latent_noise * noise.normal(*posterior.mu.shape))  # (N, L, d)
    x_1 = model.to_flow(z, batch["library"])  # (N, D)
    t, x_0 = noise.uniform(n), noise.normal(n, x_1.shape[1])  # (N,), (N, D)

    def field(x: Tensor, t: Tensor) -> Tensor:
        return model.velocity(x, t, model.conditions.mask(batch["values"], masked(step, n)))  # (N, D)

    return step.objective.loss(field, x_1, batch["group"], t, x_0, noise.generator)


def cells_loss(step: Step) -> Tensor:
    """The loss on paths from control cells to treated cells of the same stratum, strata drawn equally often."""
    rows: LatentRows = step.rows
    model, (control, treated, group, entry) = step.model, rows.pairs.drawn(step.noise.own)
    x_0, x_1 = (rows.flow(model, place) for place in (control, treated))  # (M, D), means of the posteriors
    x_0[:, -1] = x_1[:, -1] = 0.0  # cells keep their library size
    t = torch.rand(len(x_0), generator=step.noise.own, device=x_0.device)
    values = {name: value[treated] for name, value in rows.values.items()}
    told, moved = model.velocity.told, None
    values = model.conditions.only(values, *told)  # the cell brings its own identity
    if len(told) > 1:
        moved = model.velocity.shifts[torch.tensor(rows.pairs.targets, device=x_0.device)[entry]]  # (M, D)
    objective = OTCFM() if step.weights.pairing == "ot" else step.objective
    cells, field = torch.ones(len(x_0), device=x_0.device), model.velocity
    return objective.loss(lambda x, t: field(x, t, values, cells, moved=moved), x_1, group, t, x_0, step.noise.own)


def masked(step: Step, n: int) -> Tensor:
    """Which conditions of which cells the flow sees as [MASK], (N, C): each by itself, and all of a cell together.

    A single column has no combinations to learn from its parts: the joint rate alone masks it, where there is one.
    """
    columns = len(step.model.conditions.columns)
    each = step.weights.mask_rate if columns > 1 or not step.weights.joint_mask_rate else 0.0
    where = step.noise.uniform(n, columns) < each
    if step.weights.joint_mask_rate:
        where = where | (step.noise.uniform(n, 1) < step.weights.joint_mask_rate)
    return where


def head_losses(step: Step, batch: Batch) -> Losses:
    """The integration head's evidence bound of latents, divided by their numbers.

    Its decoder is always given the technical columns: where they are masked, the code has to hold the batch.
    """
    head, mu, logvar = step.model.head, batch["mu"].flatten(1), batch["logvar"].flatten(1)
    noise = step.noise.normal(*mu.shape) if step.training else torch.zeros_like(mu)
    latent = mu + torch.exp(0.5 * logvar) * noise  # (N, D)
    code = head.encode(latent)
    u = code.sample(step.noise.normal(*code.mu.shape)) if step.training else code.mu  # (N, k)
    error = 0.5 * (head.standardised(latent) - head.decode(u, batch["values"])).square().sum(1).mean()
    kl = code.kl().mean()
    loss = (error + step.warm(step.weights.head_kl_weight, 0.3) * kl) / mu.shape[1]
    return {"loss": loss, "error": error.detach(), "kl": kl.detach()}
