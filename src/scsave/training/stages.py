"""The Lightning modules: autoencoder, flow on cached latents, and both at once (method.md section 5)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from scsave.flow.paths import CFM
from scsave.models.autoencoder import kl_to_standard_normal
from scsave.models.model import Posterior, SAVEModel
from scsave.training.loader import Batch, StepNoise

if TYPE_CHECKING:
    from scsave.training.plan import Plan


PER_GENE_LR = 10.0


class EMA(AveragedModel):
    """Exponential moving average that forgets its beginning: decay (1 + n) / (10 + n) until `decay` is reached."""

    def __init__(self, module: nn.Module, decay: float):
        def average(averaged: list[Tensor], current: list[Tensor], n: Tensor) -> None:
            step = float(n)
            torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + step) / (10 + step)))

        super().__init__(module, multi_avg_fn=average)


class Stage(L.LightningModule):
    """What the stages share: optimiser, schedule, stateless randomness, validation with fixed noise."""

    name = "stage"
    number = 0  # keys the random draws, so that two stages never share them

    def __init__(self, model: SAVEModel, plan: Plan, objective: CFM, seed: int, steps: int):
        super().__init__()
        self.model, self.plan, self.objective, self.seed, self.steps = model, plan, objective, seed, steps
        # What a stage does not train gets no gradient: no optimiser state, and nothing unused for DDP to wait for.
        model.requires_grad_(False)
        for module in self.trained():
            module.requires_grad_(True)
        self.ema = EMA(model.velocity, plan.ema_decay).requires_grad_(False)

    def trained(self) -> list[nn.Module]:
        raise NotImplementedError

    def losses(self, batch: Batch, noise: StepNoise) -> dict[str, Tensor]:
        """Named losses, among them `loss`."""
        raise NotImplementedError

    def noise(self, *key: int, sharded: bool = True) -> StepNoise:
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if sharded else (0, 1)
        return StepNoise((self.seed, self.number, *key), rank, world, self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        losses = self.losses(batch, self.noise(0, self.global_step))
        logged = {f"{self.name}/train_{name}": value.detach() for name, value in losses.items()}
        self.log_dict(logged, on_step=True, on_epoch=False, batch_size=len(batch["library"]))
        return losses["loss"]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        losses = self.losses(batch, self.noise(1, batch_idx, sharded=False))
        logged = {f"{self.name}/val_{name}": value for name, value in losses.items()}
        self.log_dict(logged, on_step=False, on_epoch=True, batch_size=len(batch["library"]))

    def configure_optimizers(self) -> dict[str, Any]:
        trained = {p for module in self.trained() for p in module.parameters() if p.requires_grad}
        levels = [] if self.model.levels is None else self.model.levels.parameters()
        own = {p for p in (self.model.average, *self.model.likelihood.parameters(), *levels) if p in trained}
        networks = [p for p in self.parameters() if p in trained - own]
        groups = [{"params": networks}]
        if own:  # one number a gene: steps that suit a network hardly move a dispersion
            per_gene = [p for p in self.parameters() if p in own]
            groups.append({"params": per_gene, "lr": PER_GENE_LR * self.lr, "weight_decay": 0.0})
        optimizer = torch.optim.AdamW(groups, lr=self.lr, weight_decay=self.plan.weight_decay, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._lr_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @property
    def lr(self) -> float:
        return self.plan.lr

    def _lr_factor(self, step: int) -> float:
        warm = min(1.0, (step + 1) / max(1, self.plan.warmup_steps))
        if self.plan.schedule == "constant":
            return warm
        return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))

    # --- losses ---
    def autoencoder_losses(self, batch: Batch, noise: StepNoise) -> tuple[dict[str, Tensor], Posterior]:
        model, counts, library = self.model, batch["counts"], batch["library"]
        scaled = model.scaled(counts, library)  # (N, G)
        posterior = model.encode(self._seen(scaled, noise))
        z = posterior.sample(noise.normal(*posterior.mu.shape))  # (N, L, d)
        told = model.decoder_conditions.conditions
        values = {name: batch["values"][name] for name in told.names}
        where = noise.uniform(len(z), len(told.columns)) < self.plan.decoder_mask_rate
        out = model.decode(z, told.mask(values, where))  # (N, G, n_outputs)
        target = counts if model.likelihood.space == "counts" else scaled
        reconstruction = -model.likelihood.log_prob(out.float(), target, library).mean()
        kl = kl_to_standard_normal(posterior.mu.float(), posterior.logvar.float()).mean()
        # Divided by the genes, so that the size of a gradient does not depend on the panel.
        kl_weight = self.plan.kl_weight
        if self.training:  # free at first, so that the latent is used before it is taxed
            kl_weight *= min(1.0, self.global_step / max(1, self.plan.kl_warmup * self.steps))
        loss = (reconstruction + kl_weight * kl) / counts.shape[1]
        return {"loss": loss, "reconstruction": reconstruction.detach(), "kl": kl.detach()}, posterior

    def _seen(self, scaled: Tensor, noise: StepNoise) -> Tensor:
        """What the encoder sees of cells (N, G): in training not every gene, lest it know the cells by heart."""
        hidden = self.plan.input_dropout
        if not (self.training and hidden):
            return scaled
        return scaled.masked_fill(noise.uniform(*scaled.shape) < hidden, 0.0) / (1 - hidden)

    def flow_loss(self, posterior: Posterior, batch: Batch, noise: StepNoise) -> Tensor:
        model = self.model
        n = len(posterior.mu)
        z = posterior.sample(self.plan.latent_noise * noise.normal(*posterior.mu.shape))  # (N, L, d)
        x_1 = model.to_flow(z, batch["library"])  # (N, D)
        t, x_0 = noise.uniform(n), noise.normal(n, x_1.shape[1])
        point = self.objective.path(x_1, batch["group"], t, x_0, noise.generator)
        where = noise.uniform(n, len(model.conditions.columns)) < self.plan.mask_rate
        values = model.conditions.mask(batch["values"], where)
        velocity = self.velocity(point.x_t, point.t, values)
        return (velocity - point.target).square().mean()

    def velocity(self, x: Tensor, t: Tensor, values: dict[str, Tensor]) -> Tensor:
        # validation is of what will sample
        network = self.model.velocity if self.training else self.ema.module
        return network(x, t, values)


class AverageCell(nn.Module):
    """The decoder's average cell as a module, so that a stage can list it among what it trains."""

    def __init__(self, model: SAVEModel):
        super().__init__()
        self.average = model.average


class AutoencoderStage(Stage):
    """Reconstruction and KL."""

    name, number = "autoencoder", 1

    def trained(self) -> list[nn.Module]:
        model = self.model
        shifts = [shift for shift in (model.shift, model.levels) if shift is not None]
        return [model.encoder, model.decoder, model.decoder_conditions, model.likelihood, AverageCell(model), *shifts]

    def losses(self, batch: Batch, noise: StepNoise) -> dict[str, Tensor]:
        return self.autoencoder_losses(batch, noise)[0]


class FlowStage(Stage):
    """Flow matching on cached posteriors of a finished autoencoder."""

    name, number = "flow", 2

    @property
    def lr(self) -> float:
        return self.plan.flow_lr

    def trained(self) -> list[nn.Module]:
        return [self.model.velocity]

    def losses(self, batch: Batch, noise: StepNoise) -> dict[str, Tensor]:
        return {"loss": self.flow_loss(Posterior(batch["mu"], batch["logvar"]), batch, noise)}

    def on_train_batch_end(self, *args: Any) -> None:
        self.ema.update_parameters(self.model.velocity)


class JointStage(Stage):
    """The paper's sum: reconstruction + KL + flow matching, the flow seeing detached latents."""

    name, number = "joint", 3

    def trained(self) -> list[nn.Module]:
        return [self.model]

    def losses(self, batch: Batch, noise: StepNoise) -> dict[str, Tensor]:
        losses, posterior = self.autoencoder_losses(batch, noise)
        detached = Posterior(posterior.mu.detach().float(), posterior.logvar.detach().float())
        if self.training:
            self._follow_latent(detached, batch["library"])
        flow = self.flow_loss(detached, batch, noise)
        return losses | {"loss": losses["loss"] + flow, "flow": flow.detach()}

    def _follow_latent(self, posterior: Posterior, library: Tensor) -> None:
        """Running mean and spread of the latent, the same on every rank."""
        model, mean_of = self.model, self.trainer.strategy.reduce
        x = torch.cat([posterior.mu.flatten(1), library.log()[:, None]], dim=-1)
        square = torch.cat([posterior.logvar.exp().flatten(1), torch.zeros_like(library)[:, None]], dim=-1) + x**2
        mean, second = mean_of(x.mean(0), reduce_op="mean"), mean_of(square.mean(0), reduce_op="mean")
        std = (second - mean**2).clamp(min=1e-8).sqrt()
        rate = max(0.01, 1 / (1 + self.global_step))
        model.flow_mean.lerp_(mean, rate)
        model.flow_std.lerp_(std, rate)

    def on_train_batch_end(self, *args: Any) -> None:
        self.ema.update_parameters(self.model.velocity)
