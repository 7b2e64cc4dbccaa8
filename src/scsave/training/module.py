"""The Lightning module that trains a stage: optimiser, schedule, random draws, validation with fixed noise."""

import math
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from scsave.errors import UserError
from scsave.flow.objective import Objective
from scsave.models.model import SAVEModel
from scsave.training.loader import Batch, Rows, StepNoise
from scsave.training.plan import Plan
from scsave.training.stages import Losses, Stage, Step

PER_GENE_LR = 10.0  # times the learning rate of the networks: one number a gene gets few and small gradients
FORMAT = 3  # of stage checkpoints


class StageModule(L.LightningModule):
    """`model` under one stage of a plan, for `steps` steps."""

    flops_per_batch = None  # not counted: Lightning's throughput monitor would warn

    def __init__(
        self,
        model: SAVEModel,
        stage: Stage,
        plan: Plan,
        objective: Objective,
        seed: int,
        steps: int,
        parts: frozenset[str] = frozenset({"autoencoder", "noise"}),
        rows: Rows | None = None,
    ):
        super().__init__()
        self.parts, self.rows = parts, rows
        self.cool_from: int | None = None  # step from which the learning rate falls to 0; None: by the plan's share
        self.model, self.stage, self.plan, self.objective = model, stage, plan, objective
        self.name, self.seed, self.steps = stage.name, seed, steps
        # What a stage does not train gets no gradient: no optimiser state, and nothing unused for DDP to wait for.
        model.requires_grad_(False)
        for module in stage.trained(model):
            module.requires_grad_(True)

    @property
    def averaged(self) -> nn.Module | None:
        return self.stage.averaged(self.model)

    def losses(self, batch: Batch, noise: StepNoise, number: int) -> Losses:
        of_stage = self.steps, self.training, self.parts, self.rows, self._mean
        return self.stage.losses(Step(self.model, self.objective, self.plan, noise, number, *of_stage), batch)

    def _mean(self, x: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(x, reduce_op="mean")

    def noise(self, *key: int, sharded: bool = True) -> StepNoise:
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if sharded else (0, 1)
        return StepNoise((self.seed, self.stage.number, *key), rank, world, self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        losses = self.losses(batch, self.noise(0, self.global_step), self.global_step)
        self._refuse_non_finite(losses["loss"])
        logged = {f"{self.name}/train_{name}": value.detach() for name, value in losses.items()}
        self.log_dict(logged, on_step=True, on_epoch=False, batch_size=len(batch["library"]))
        return losses["loss"]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        losses = self.losses(batch, self.noise(1, batch_idx, sharded=False), self.global_step)
        logged = {f"{self.name}/val_{name}": value for name, value in losses.items()}
        self.log_dict(logged, on_step=False, on_epoch=True, batch_size=len(batch["library"]))

    def _refuse_non_finite(self, loss: Tensor) -> None:
        """UserError where the loss is NaN or infinite, before the step spoils the weights; on all processes together."""
        finite = bool(torch.isfinite(loss))
        if self.trainer.world_size > 1:
            finite = self.trainer.strategy.reduce_boolean_decision(finite, all=True)
        if not finite:
            raise UserError(
                f"stage {self.name}: the loss is {loss.item():g} at step {self.global_step + 1} of {self.steps}; "
                f"lower {self.stage.lr_key} (now {self.stage.lr:g}) or training.gradient_clip (now {self.plan.gradient_clip})"
            )

    def configure_optimizers(self) -> dict[str, Any]:
        own = [p for p in self.model.per_gene() if p.requires_grad]
        known = set(own)
        networks = [p for p in self.parameters() if p.requires_grad and p not in known]
        groups: list[dict[str, Any]] = [{"params": networks}] if networks else []
        if own:
            groups.append({"params": own, "lr": PER_GENE_LR * self.stage.lr, "weight_decay": 0.0})
        optimizer = torch.optim.AdamW(groups, lr=self.stage.lr, weight_decay=self.plan.weight_decay, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._lr_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _lr_factor(self, step: int) -> float:
        """Warm-up, then constant, then a straight line to 0 over the last `cooldown` of the steps; or a cosine."""
        warm = min(1.0, (step + 1) / max(1, self.plan.warmup_steps))
        if self.plan.schedule == "constant":
            return warm
        begin, end = self.cooling()
        cooled = min(1.0, max(0.0, (end - step) / max(1, end - begin)))
        if self.plan.schedule == "cooldown":
            return warm * cooled
        early = self.cool_from is not None  # a straight line from where the cosine was
        at = min(step, begin) if early else step
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, at / self.steps)))
        return warm * cosine * (cooled if early else 1.0)

    def cooling(self) -> tuple[int, int]:
        """First and last step of the cooldown."""
        share = self.plan.cooldown
        if self.cool_from is None:
            return round(self.steps * (1 - share)), self.steps
        return self.cool_from, min(self.steps, math.ceil(self.cool_from / (1 - share)))

    def scored(self, step: int) -> bool:
        """Does a validation after `step` steps count? Lightning makes one more where a run is asked to stop."""
        return step % self.plan.val_every == 0 or step >= self.cooling()[1]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["scsave_format"] = FORMAT

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if checkpoint.get("scsave_format") != FORMAT:
            raise UserError(
                f"the checkpoint of stage {self.name} is of an older version (not format {FORMAT}): it can't be "
                "gone on with; train again without resume="
            )
