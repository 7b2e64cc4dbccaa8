"""Options of the config group `trainer`: device, precision and processes of the Lightning runs."""

from __future__ import annotations

import inspect
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import NonNegativeInt, PositiveInt

from scsave.components import nearest
from scsave.errors import UserError

if TYPE_CHECKING:
    import lightning as L
    import torch
    from lightning.pytorch.callbacks import Callback

# Of lightning.Trainer, what this class and `scsave.training.fitting` give it themselves.
_GIVEN = {
    "accelerator", "devices", "num_nodes", "strategy", "precision", "max_epochs", "max_steps", "check_val_every_n_epoch",
    "num_sanity_val_steps", "callbacks", "log_every_n_steps", "enable_progress_bar", "enable_model_summary",
    "enable_checkpointing", "use_distributed_sampler", "detect_anomaly", "profiler", "val_check_interval",
    "gradient_clip_val", "logger", "default_root_dir",
}  # fmt: skip


@dataclass(kw_only=True)
class TrainerOptions:
    """Device, precision, processes; `limit_steps` caps every stage (debugging)."""

    accelerator: Literal["cpu", "gpu", "auto"] = "cpu"
    devices: PositiveInt = 1
    num_nodes: PositiveInt = 1
    strategy: str = "auto"
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "64-true"] = "32-true"
    num_workers: NonNegativeInt = 0
    compile: bool = False
    limit_steps: PositiveInt | None = None
    detect_anomaly: bool = False
    profiler: Literal["simple", "advanced"] | None = None
    log_every: PositiveInt = 25
    options: dict[str, Any] | None = None  # anything else that lightning.Trainer takes

    @property
    def device(self) -> torch.device:
        """Where networks are trained and everything after that is computed. UserError for a GPU that torch does not see."""
        import torch

        if self.accelerator != "cpu" and torch.cuda.is_available():
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0))
        if self.accelerator != "cpu" and torch.backends.mps.is_available():
            return torch.device("mps")
        if self.accelerator == "gpu":
            raise UserError(
                "trainer.accelerator=gpu: torch sees no GPU here; use trainer=cpu, or a torch build for your GPU"
            )
        return torch.device("cpu")

    def check(self) -> None:
        """UserError for what Lightning would refuse only when the data are prepared: devices, strategy, other options."""
        there, what = self._most_devices()
        if self.devices > there:
            raise UserError(f"trainer.devices={self.devices}: at most {there} {what}")
        if self.strategy == "auto" and not self.options:
            return  # importing Lightning takes seconds
        import lightning as L
        from lightning.pytorch.strategies import StrategyRegistry

        if self.strategy != "auto" and self.strategy not in StrategyRegistry.available_strategies():
            known = sorted(StrategyRegistry.available_strategies())
            raise UserError(
                f"trainer.strategy={self.strategy}: no strategy of Lightning, which has auto, {', '.join(known)}"
                f"{nearest(self.strategy, known)}"
            )
        known = sorted(inspect.signature(L.Trainer.__init__).parameters)[1:]
        for key in self.options or {}:
            if key not in known:
                raise UserError(f"trainer.options.{key}: lightning.Trainer takes no such option{nearest(key, known)}")
            if key in _GIVEN:
                raise UserError(
                    f"trainer.options.{key}: scsave gives it to lightning.Trainer itself, by trainer.* and training.*"
                )

    def _most_devices(self) -> tuple[int, str]:
        """How many processes can be started here, one a device: on CPUs two, how a distributed run is tried, or one a core."""
        if self.accelerator != "cpu":  # importing torch takes seconds
            import torch

            if self.device.type != "cpu":
                return (torch.cuda.device_count() if self.device.type == "cuda" else 1), "GPUs here"
        return max(2, os.cpu_count() or 1), "processes on these CPUs"

    def build(self, callbacks: list[Callback], **more: Any) -> L.Trainer:
        """Lightning's trainer, `more` as it takes it."""
        import lightning as L

        return L.Trainer(
            accelerator=self.accelerator,
            devices=self.devices,
            num_nodes=self.num_nodes,
            strategy=self.strategy,
            precision=self.precision,
            max_epochs=-1,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            callbacks=callbacks,
            log_every_n_steps=self.log_every,
            enable_progress_bar=False,  # ours is scsave.training.callbacks.Bar
            enable_model_summary=False,
            enable_checkpointing=False,
            use_distributed_sampler=False,  # StepSampler shards by itself
            detect_anomaly=self.detect_anomaly,
            profiler=self.profiler,
            **more,
            **(self.options or {}),
        )
