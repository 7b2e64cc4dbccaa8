"""Options of the config group `training`: which stages, how long, and with what weights (method.md section 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from scsave.errors import UserError
from scsave.training.stages import AutoencoderStage, FlowStage, JointStage, Positive, Rate, Stage

Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(kw_only=True)
class Plan:
    """What both schemes share. Losses are divided by the genes, so `kl_weight=1` is the true evidence bound."""

    batch_size: Positive = 128
    lr: Rate = 1e-3
    weight_decay: Weight = 2.5e-5
    warmup_steps: Annotated[int, Field(ge=0)] = 50
    schedule: Literal["cosine", "constant"] = "cosine"
    gradient_clip: Rate | None = 1.0
    kl_weight: Weight = 1.0
    kl_warmup: Share = 0.5  # share of the steps over which the KL weight grows from 0
    mask_rate: Share = 0.2  # of the flow's conditions, each by itself; the paper's p is 0.6
    joint_mask_rate: Share = 0.0  # of the flow's cells, all their conditions together
    decoder_mask_rate: Share = 0.1
    input_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of genes hidden from the encoder in a step
    latent_noise: Weight = 1.0  # the flow learns samples of q(z | x) (1) or its means (0)
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    val_every: Positive = 200
    then: Any = None  # a further `Stage`, behind the plan's own

    def __post_init__(self):
        if not isinstance(self.then, Stage | None):
            raise UserError(f"training.then: {type(self.then).__name__} is no stage (scsave.training.stages.Stage)")
        names = [stage.name for stage in self.stages()]
        if twice := {name for name in names if names.count(name) > 1}:  # they would share a checkpoint
            raise UserError(
                f"training.then: this plan has a stage {twice.pop()} already; its stages: {', '.join(names)}"
            )

    def stages(self) -> list[Stage]:
        """In the order in which they are run."""
        stages, further = self.own_stages(), self.then
        while further is not None:
            stages, further = [*stages, further], further.then
        return stages

    def own_stages(self) -> list[Stage]:
        return []

    def check_guidance(self, guidance: float | dict[str, float]) -> None:
        """UserError where guidance needs a field that this plan does not train."""
        trained = self.mask_rate or (self.joint_mask_rate and not isinstance(guidance, dict))
        if guidance != 1.0 and not trained:
            raise UserError(
                f"sampling.guidance={guidance} needs a field that has seen [MASK], but training.mask_rate=0; "
                "set training.mask_rate above 0 or sampling.guidance=1"
            )


@dataclass(kw_only=True)
class TwoStage(Plan):
    """The autoencoder, then the flow on cached latents: many cheap steps."""

    autoencoder_steps: Positive = 700
    flow_steps: Positive = 1200
    flow_batch_size: Positive = 128
    flow_lr: Rate = 4e-3

    def own_stages(self) -> list[Stage]:
        return [
            AutoencoderStage(steps=self.autoencoder_steps, batch_size=self.batch_size, lr=self.lr),
            FlowStage(steps=self.flow_steps, batch_size=self.flow_batch_size, lr=self.flow_lr),
        ]


@dataclass(kw_only=True)
class Joint(Plan):
    """The paper's sum of reconstruction, KL and flow matching, the flow seeing detached latents."""

    steps: Positive = 4000

    def own_stages(self) -> list[Stage]:
        return [JointStage(steps=self.steps, batch_size=self.batch_size, lr=self.lr)]
