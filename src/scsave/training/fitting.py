"""Run the stages of a plan, each one Lightning fit, going on from whatever an earlier run left."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from torch import Tensor

from scsave.flow.paths import CFM
from scsave.models.model import SAVEModel
from scsave.training.callbacks import GracefulStop, StageCheckpoint, StepClock
from scsave.training.loader import CellRows, LatentRows, StepSampler, ordered_loader, train_loader
from scsave.training.plan import Plan
from scsave.training.stages import AutoencoderStage, FlowStage, JointStage, Stage
from scsave.training.trainer import TrainerOptions

Networks = Literal["none", "autoencoder", "flow"]  # what is trained; the flow needs the autoencoder
STAGES: dict[str, type[Stage]] = {s.name: s for s in (AutoencoderStage, FlowStage, JointStage)}


class Stopped(Exception):
    """The run was asked to stop; its checkpoint is written."""


@dataclass
class Workshop:
    """Where and how to train: what is not part of the model."""

    folder: Path | None = None  # checkpoints of the stages; None keeps nothing
    trainer: TrainerOptions = field(default_factory=TrainerOptions)
    loggers: Callable[[str], list[Logger]] = lambda stage: []
    callbacks: list[Callback] = field(default_factory=list)
    checkpoint_every: int = 500


def quiet_lightning() -> None:
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (".*does not have many workers.*", ".*isn't resumable.*", ".*is not resumable.*", ".*LeafSpec.*"):
        warnings.filterwarnings("ignore", message=message)
    warnings.filterwarnings("ignore", category=UserWarning, module="lightning.*")


@torch.no_grad()
def posteriors(model: SAVEModel, rows: CellRows, device: torch.device) -> dict[str, Tensor]:
    """mu, logvar (N, L, d), library and group (N,) of every row, on the CPU."""
    model.eval()
    parts: list[dict[str, Tensor]] = []
    for batch in ordered_loader(rows):
        library = batch["library"].to(device)
        q = model.encode(model.scaled(batch["counts"].to(device), library))
        parts.append({"mu": q.mu.cpu(), "logvar": q.logvar.cpu(), "library": library.cpu(), "group": batch["group"]})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _cache_latents(model: SAVEModel, rows: CellRows, device: torch.device) -> LatentRows:
    return LatentRows(posteriors(model, rows, device), rows.values)


@torch.no_grad()
def _standardise(model: SAVEModel, latents: LatentRows, noise: float) -> None:
    """Latents to mean 0 and spread 1 on training cells, the posterior's own variance counted in."""
    mu, variance = latents.tensors["mu"].flatten(1), latents.tensors["logvar"].flatten(1).exp() * noise**2
    library = latents.tensors["library"].log()[:, None]
    std = torch.cat([(mu.var(0, correction=0) + variance.mean(0)), library.var(0, correction=0)]).sqrt()
    model.flow_mean.copy_(torch.cat([mu.mean(0), library.mean(0)]))
    model.flow_std.copy_(std.clamp(min=1e-3))


def fit_stages(
    model: SAVEModel,
    plan: Plan,
    objective: CFM,
    train: CellRows,
    val: CellRows | None,
    workshop: Workshop,
    seed: int,
    networks: Networks = "flow",
) -> dict[str, float]:
    """Train `model` in place; returns steps, cells seen and seconds of each stage. Raises Stopped after Ctrl-C.

    `networks` leaves out what is not needed; a joint stage trains everything or nothing.
    """
    quiet_lightning()
    cost: dict[str, float] = {"steps": 0, "cells_seen": 0, "seconds_fit": 0.0}
    device = _device(workshop.trainer)
    for name, steps in plan.stages():
        if networks == "none" or (networks == "autoencoder" and name == "flow"):
            continue
        steps = min(steps, workshop.trainer.limit_steps or steps)
        rows: tuple[CellRows | LatentRows, CellRows | LatentRows | None] = (train, val)
        started = time.perf_counter()
        if name == "flow":
            model.to(device)
            rows = (_cache_latents(model, train, device), val and _cache_latents(model, val, device))
            _standardise(model, rows[0], plan.latent_noise)
            model.cpu()
        stage, clock = STAGES[name](model, plan, objective, seed, steps), StepClock()
        cells = _fit(stage, rows, steps, workshop, seed, clock)
        if name != "autoencoder":
            model.velocity.load_state_dict(stage.ema.module.state_dict())
        seconds = time.perf_counter() - started
        cost |= {f"{name}_steps": steps, f"{name}_seconds": seconds} | clock.cost(name)
        cost["steps"] += steps
        cost["cells_seen"] += cells
        cost["seconds_fit"] += seconds
    model.requires_grad_(False).eval()
    cost["cells_per_second_fit"] = cost["cells_seen"] / max(cost["seconds_fit"], 1e-9)
    if device.type == "cuda":
        cost["peak_device_mb"] = torch.cuda.max_memory_allocated(device) / 2**20
    return cost


def _device(options: TrainerOptions) -> torch.device:
    cuda = options.accelerator != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if cuda else "cpu")


def _fit(stage: Stage, rows: tuple, steps: int, workshop: Workshop, seed: int, clock: StepClock) -> int:
    """One Lightning fit; returns the cells that the optimiser saw."""
    options, plan = workshop.trainer, stage.plan
    stop = GracefulStop()
    callbacks: list[Callback] = [*workshop.callbacks, stop, clock]
    resume = None
    if workshop.folder is not None:
        workshop.folder.mkdir(parents=True, exist_ok=True)
        callbacks.append(StageCheckpoint(workshop.folder, workshop.checkpoint_every))
        found = workshop.folder / f"{stage.name}.ckpt"
        resume = found if found.exists() else None
    batch = plan.flow_batch_size if stage.name == "flow" else plan.batch_size
    world = options.devices * options.num_nodes
    trainer = options.build(
        steps,
        plan.val_every,
        plan.gradient_clip,
        callbacks,
        workshop.loggers(stage.name),
        workshop.folder or Path.cwd(),
    )
    sampler = StepSampler(len(rows[0]), batch, seed, lambda: trainer.global_step, trainer.global_rank, world)
    loader = train_loader(rows[0], sampler, options.num_workers, pin=options.accelerator == "gpu")
    if options.compile:
        stage.losses = torch.compile(stage.losses, dynamic=True)
    has_val = rows[1] is not None and len(rows[1]) > 0
    trainer.fit(stage, loader, ordered_loader(rows[1]) if has_val else None, ckpt_path=resume)
    stage.cpu()
    if stop.stopped:
        raise Stopped(f"stopped in stage {stage.name} at step {trainer.global_step} of {steps}")
    return steps * sampler.batch_size
