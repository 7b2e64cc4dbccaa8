"""Options of the config group `training`: which stages, how long, and with what weights (method.md section 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from scsave.errors import UserError

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]
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
    mask_rate: Share = 0.2  # of the flow's conditions; the paper's p is 0.6
    decoder_mask_rate: Share = 0.1
    input_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of genes hidden from the encoder in a step
    latent_noise: Weight = 1.0  # the flow learns samples of q(z | x) (1) or its means (0)
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    val_every: Positive = 200

    def stages(self) -> list[tuple[str, int]]:
        """Names and steps of the stages, in order."""
        raise NotImplementedError

    def check_guidance(self, guidance: float | dict[str, float]) -> None:
        if guidance != 1.0 and self.mask_rate == 0:
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

    def stages(self) -> list[tuple[str, int]]:
        return [("autoencoder", self.autoencoder_steps), ("flow", self.flow_steps)]


@dataclass(kw_only=True)
class Joint(Plan):
    """The paper's sum of reconstruction, KL and flow matching, the flow seeing detached latents."""

    steps: Positive = 4000

    def stages(self) -> list[tuple[str, int]]:
        return [("joint", self.steps)]
