"""Options of the config group `training`: which stages, how long, and with what weights (method.md sections 5 and 9)."""

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from scsave.errors import UserError
from scsave.training.length import Length
from scsave.training.stages import AutoencoderStage, FlowStage, HeadStage, JointStage, Stage

Share = Annotated[float, Field(ge=0, le=1)]
Part = Annotated[float, Field(gt=0, lt=1)]


@dataclass(kw_only=True)
class Plan:
    """What every scheme has. Losses are divided by the genes, so `kl_weight=1` is the true evidence bound.

    The defaults stand in configs/training; a test holds both equal.
    """

    batch_size: PositiveInt = 128
    lr: PositiveFloat = 3e-3
    weight_decay: NonNegativeFloat = 2.5e-5
    warmup_steps: NonNegativeInt = 50
    schedule: Literal["cooldown", "cosine", "constant"] = "cosine"
    cooldown: Part = 0.3
    patience: PositiveInt | None = None
    tolerance: NonNegativeFloat = 5e-4
    max_minutes: PositiveFloat | None = None
    cool_from: dict[str, int] | None = None
    gradient_clip: PositiveFloat | None = 1.0
    kl_weight: NonNegativeFloat = 1e-3
    kl_warmup: Share = 0.5
    calibrate_dispersion: bool = True
    thinning: Annotated[float, Field(gt=0, le=1)] = 0.3
    mask_rate: Share = 0.6
    joint_mask_rate: Share = 0.1
    decoder_mask_rate: Share = 0.1
    input_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    latent_noise: NonNegativeFloat = 1.0
    pairing: Literal["ot", "objective"] = "ot"
    leave: Share | None = None
    trust_groups: Annotated[int, Field(ge=2)] = 4
    cells_steps: PositiveInt = 200
    trust_cells: PositiveInt = 300
    head_kl_weight: NonNegativeFloat = 0.5
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    val_every: PositiveInt = 200
    then: Any = None

    def __post_init__(self):
        if not isinstance(self.then, Stage | None):
            raise UserError(f"training.then: {type(self.then).__name__} is no stage (scsave.training.stages.Stage)")
        names = [stage.name for stage in self.stages()]
        if twice := {name for name in names if names.count(name) > 1}:  # they would share a checkpoint
            raise UserError(f"training.then: this plan has a stage {twice.pop()} already; stages: {', '.join(names)}")
        if unknown := set(self.cool_from or {}) - set(names):
            raise UserError(f"training.cool_from: no stage {unknown.pop()}; the stages are {', '.join(names)}")

    def stages(self) -> list[Stage]:
        """In the order in which they are run."""
        stages, further = self.own_stages(), self.then
        while further is not None:
            stages, further = [*stages, further], further.then
        return stages

    def own_stages(self) -> list[Stage]:
        return []

    def check_parts(self, parts: frozenset[str]) -> None:
        """UserError where a part is asked for that no stage of this plan trains."""
        if missing := sorted(parts - frozenset().union(*(stage.gives for stage in self.stages()))):
            raise UserError(
                f"training: no stage of {type(self).__name__} trains the part {missing[0]} that the task asks for; use "
                "training=two_stage, or a route from noise (task.route=generate)"
            )

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
    """The autoencoder, then the flow and the integration head on cached latents: many cheap steps."""

    autoencoder_steps: PositiveInt | None = None
    autoencoder_passes: PositiveFloat = 27
    autoencoder_least: PositiveInt = 500
    autoencoder_most: PositiveInt = 20000
    autoencoder_small_passes: PositiveFloat = 140
    autoencoder_small_most: PositiveInt = 5000
    flow_steps: PositiveInt | None = None
    flow_passes: PositiveFloat = 40
    flow_least: PositiveInt = 1000
    flow_most: PositiveInt = 20000
    flow_small_passes: PositiveFloat = 420
    flow_small_most: PositiveInt = 6000
    flow_batch_size: PositiveInt = 256
    flow_lr: PositiveFloat = 1e-3
    head_steps: PositiveInt = 2000
    head_lr: PositiveFloat = 2e-3

    def own_stages(self) -> list[Stage]:
        autoencoder, flow = (
            Length(*(getattr(self, f"{name}_{f.name}") for f in fields(Length))) for name in ("autoencoder", "flow")
        )
        return [
            AutoencoderStage(steps=autoencoder, batch_size=self.batch_size, lr=self.lr),
            FlowStage(steps=flow, batch_size=self.flow_batch_size, lr=self.flow_lr, cells_steps=self.cells_steps),
            HeadStage(steps=self.head_steps, batch_size=256, lr=self.head_lr),
        ]


@dataclass(kw_only=True)
class Joint(Plan):
    """The paper's sum of reconstruction, KL and flow matching, the flow seeing detached latents; then the head."""

    steps: PositiveInt = 4000
    flow_lr: PositiveFloat = 1e-3
    head_steps: PositiveInt = 2000
    head_lr: PositiveFloat = 2e-3

    def own_stages(self) -> list[Stage]:
        return [
            JointStage(steps=self.steps, batch_size=self.batch_size, lr=self.lr),
            HeadStage(steps=self.head_steps, batch_size=256, lr=self.head_lr),
        ]
