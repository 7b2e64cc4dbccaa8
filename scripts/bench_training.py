"""What one optimiser step costs: seconds, floating-point operations, memory (docs/scaling.md).

    python scripts/bench_training.py [backbone=save] [--genes 19112] [--block-size 3200] [--batch 128] [--device cpu]

Steps of the autoencoder and of the flow by the project's own losses, forwards and backwards with AdamW; the joint scheme
does both in one step. Then cells generated a second. Counts are random: the data do not change the time.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from hydra import compose, initialize_config_dir
from torch.utils.flop_counter import FlopCounterMode

from scsave.blocking.blocks import GeneBlocks
from scsave.components import build
from scsave.data.conditions import Conditions
from scsave.flow.guidance import guided
from scsave.models.model import SAVEModel
from scsave.runs.main import register_resolvers
from scsave.runs.record import device_name, peak_rss_mb
from scsave.training.loader import StepNoise
from scsave.training.module import StageModule
from scsave.training.stages import AutoencoderStage, FlowStage

ROOT = Path(__file__).parent.parent


def timed(step, repeats: int, device: str) -> float:
    """Median seconds over `repeats` calls, after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        step()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return float(np.median(times[1:]))


def step_of(module: StageModule, batch: dict, device: str):
    """One optimiser step of a stage."""
    optimizer = module.configure_optimizers()["optimizer"]
    noise = StepNoise((0,), 0, 1, torch.device(device))

    def step() -> None:
        optimizer.zero_grad()
        module.losses(batch, noise, 0)["loss"].backward()
        optimizer.step()

    return step


def operations(step) -> float:
    """Floating-point operations of the matrix products of one step."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", help="as for train.py: backbone=save likelihood=gaussian")
    parser.add_argument("--genes", type=int, default=19112)
    parser.add_argument("--block-size", type=int, default=3200)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    register_resolvers()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("train", asked.overrides)
    device, n, n_blocks = asked.device, asked.batch, -(-asked.genes // asked.block_size)
    obs = pd.DataFrame({"cell_type": [f"t{i % 10}" for i in range(n)], "batch": [f"b{i % 5}" for i in range(n)]})
    conditions = Conditions.fit(obs, list(obs))
    blocks = GeneBlocks(tuple(f"g{i}" for i in range(asked.genes)), np.arange(asked.genes) % n_blocks, "bench", {})
    model = SAVEModel(
        build(cfg.backbone, "backbone"), blocks, build(cfg.likelihood, "likelihood"), conditions, list(obs)
    ).to(device)
    plan, objective = build(cfg.training, "training"), build(cfg.objective, "objective")
    values = {name: v.to(device) for name, v in conditions.encode(obs).items()}
    counts = torch.poisson(torch.full((n, asked.genes), 0.1)).to(device)
    group = torch.zeros(n, dtype=torch.long, device=device)
    batch = {"counts": counts, "library": counts.sum(1) + 1, "values": values, "group": group}
    with torch.no_grad():
        q = model.encode(model.scaled(counts, batch["library"]))
    batch |= {"mu": q.mu, "logvar": q.logvar}

    shape = f"{asked.genes} genes, {n_blocks} blocks, batch {n}"
    print(
        f"{device_name('cpu' if device == 'cpu' else 'gpu')}; {shape}; {sum(p.numel() for p in model.parameters()):,} parameters"
    )
    for stage in (AutoencoderStage(steps=100), FlowStage(steps=100)):
        step = step_of(StageModule(model, stage, plan, objective, 0, 100).to(device), batch, device)
        seconds, flops = timed(step, asked.repeats, device), operations(step)
        print(
            f"{stage.name:12s} {seconds:8.4f} s a step {flops / 1e9:8.1f} GFLOP a step {flops / seconds / 1e9:8.1f} GFLOP/s"
        )
    solver, noise = build(cfg.sampling.solver, "sampling.solver"), torch.randn(n, model.n_latent + 1, device=device)

    def generate() -> None:
        with torch.inference_mode():
            field = guided(model.velocity, conditions, values, 1.0)
            z, _ = model.from_flow(objective.sample(field, noise, solver)[0])
            model.decode(z, values)

    print(
        f"{'sampling':12s} {n / timed(generate, 1, device):8.1f} cells a second, {solver.steps} steps of {solver.method}"
    )
    print(f"{'memory':12s} {peak_rss_mb():8.0f} MB")


if __name__ == "__main__":
    main()
