"""Run the stages of a plan, each one Lightning fit, resuming from whatever an earlier run left."""

import logging
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from scsave.flow.objective import Objective
from scsave.models.model import SAVEModel
from scsave.progress import phase
from scsave.threads import keep_freed
from scsave.training.callbacks import Averaging, Bar, Convergence, GracefulStop, Speed, StageCheckpoint
from scsave.training.dispersion import calibrate
from scsave.training.loader import LatentRows, Rows, StepSampler, in_order, loader
from scsave.training.module import StageModule
from scsave.training.options import FitOptions
from scsave.training.plan import Plan


class Stopped(Exception):
    """The run was asked to stop; its checkpoint is written."""


def quiet_lightning() -> None:
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (".*does not have many workers.*", ".*isn't resumable.*", ".*is not resumable.*", ".*LeafSpec.*"):
        warnings.filterwarnings("ignore", message=message)
    warnings.filterwarnings("ignore", category=UserWarning, module="lightning.*")


def fit_stages(
    model: SAVEModel, plan: Plan, objective: Objective, train: Rows, val: Rows | None, options: FitOptions, seed: int
) -> dict[str, Any]:
    """Train `model` in place, and leave it on the trainer's device; returns steps, cells seen and seconds of each stage.

    Stages that `options.parts` does not need, or that are in `options.done`, are left out. Raises Stopped after Ctrl-C,
    UserError where a loss is not finite.
    """
    quiet_lightning()
    keep_freed()
    cost: dict[str, Any] = {"steps": 0, "cells_seen": 0, "seconds_fit": 0.0}
    device, parts = options.trainer.device, options.parts
    due = [stage for stage in plan.stages() if stage.needed(parts) and stage.trained(model)]
    due = [stage for stage in due if stage.name not in options.done]
    latents: tuple[Rows, Rows | None] | None = None
    for stage in due:
        started, rows = time.perf_counter(), (train, val)
        steps = min(stage.length(len(train), parts), options.trainer.limit_steps or 10**9)
        if stage.reads == "latents":
            latents = latents or _latents(model.to(device), train, val, device)
            stage.prepare(model, latents[0], plan, parts, seed)
            rows = latents
        module = StageModule(model, stage, plan, objective, seed, steps, parts, rows[0])
        found = _fit(module, rows, options, device, len(due))
        seconds = time.perf_counter() - started
        cost |= {f"{stage.name}_{name}": value for name, value in found.items()} | {f"{stage.name}_seconds": seconds}
        if "autoencoder" in stage.name and plan.calibrate_dispersion:
            calibrate(model, train, seed, device)
        cost["steps"] += found["steps"]
        cost["cells_seen"] += found["steps"] * min(stage.batch_size, len(train))
        cost["seconds_fit"] += seconds
    model.requires_grad_(False).eval().to(device)
    cost["cells_per_second_fit"] = cost["cells_seen"] / max(cost["seconds_fit"], 1e-9)
    if device.type == "cuda":
        cost["peak_device_mb"] = torch.cuda.max_memory_allocated(device) / 2**20
    return cost


def _latents(model: SAVEModel, train: Rows, val: Rows | None, device: torch.device) -> tuple[Rows, Rows | None]:
    with phase("latents", len(train) + len(val or ()), "cells") as at:
        found = LatentRows(model, train, device)
        at.step(len(train))
        further = LatentRows(model, val, device) if val else None
        at.step(len(val or ()))
    return found, further


def _fit(
    module: StageModule, rows: tuple[Rows, Rows | None], options: FitOptions, device: torch.device, stages: int
) -> dict[str, Any]:
    """One Lightning fit; returns its steps, its speed, the step that it cooled from and why it ended."""
    stage, plan, setup = module.stage, module.plan, options.trainer
    stop, speed, resume = GracefulStop(), Speed(module.steps), None
    averaging = Averaging(plan.ema_decay, device) if module.averaged is not None else None
    seconds = None if plan.max_minutes is None else 60 * plan.max_minutes / stages
    watched = plan.patience is not None and stage.converges
    ending = Convergence(
        plan.patience if watched else None, plan.tolerance, seconds, (plan.cool_from or {}).get(stage.name)
    )
    callbacks = [*options.callbacks, *([averaging] if averaging else []), speed, ending, stop, Bar()]
    if options.folder is not None:
        callbacks.append(StageCheckpoint(options.folder, options.checkpoint_every))
        resume = callbacks[-1].found(module)
    trainer = setup.build(
        max_steps=module.steps,
        val_check_interval=plan.val_every,
        gradient_clip_val=plan.gradient_clip,
        callbacks=callbacks,
        logger=options.loggers(module.name),
        default_root_dir=options.folder or Path.cwd(),
    )
    world = setup.devices * setup.num_nodes
    sampler = StepSampler(
        len(rows[0]), stage.batch_size, module.seed, lambda: trainer.global_step, trainer.global_rank, world
    )
    train = loader(rows[0], sampler, setup.num_workers, pin=device.type == "cuda")
    if setup.compile:
        module.losses = torch.compile(module.losses, dynamic=True)
    trainer.fit(module, train, in_order(rows[1]) if rows[1] else None, ckpt_path=resume, weights_only=True)
    if averaging:  # Lightning does it at the end of training, which a stage that was finished before does not have
        averaging.on_train_end(trainer, module)
    module.cpu()
    steps = trainer.global_step
    if stop.stopped:
        raise Stopped(f"stopped in stage {module.name} at step {steps} of {module.steps}")
    if watched:
        ending.best_weights(module)
    return {"steps": steps, "cooled_from": ending.cool_from, "ended_by": ending.reason} | speed.cost()
