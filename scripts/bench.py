"""What the project's own work costs, in ratios within one run, with a JSON record (`make bench`, docs/scaling.md).

python scripts/bench.py [--only step sampling] [--device cuda] [--out outputs/bench.json] [backbone=save ...]
  attention  an autoencoder step with one token a gene against blocks, at 19,112 genes (the paper's table 7: 191 times)
  step       a step of each stage against its own matrix products, at 2,000 and 10,904 genes
  sampling   cells a second by solver, and of decoding alone
  demo       `python train.py`, whole, against its limits
  growth     train.py on 20,000, 80,000 and 320,000 simulated cells, 20 steps a stage; `million`, `wide` (300,000 of 5,000
             genes) where named. anonymous_mb is peak memory less pages of files, which the system can take back
Seconds are of one CPU thread, so that other work on the machine does not count; of a clock with --device cuda.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import scipy.sparse as sp
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from scsave.blocking.blocks import GeneBlocks
from scsave.components import build
from scsave.compose import compose, plain
from scsave.data.conditions import Conditions
from scsave.files import write_json
from scsave.flow.solver import Solver
from scsave.method.fitted import Fitted
from scsave.method.sample import generate
from scsave.results.sources import hashes
from scsave.runs.record import device_name, git_commit, versions
from scsave.threads import keep_freed
from scsave.training.loader import CellRows, LatentRows, StepNoise
from scsave.training.module import StageModule
from scsave.training.stages import PARTS

ROOT, ATEN = Path(__file__).resolve().parents[1], torch.ops.aten
PRODUCTS = {ATEN.mm.default, ATEN.addmm.default, ATEN.bmm.default, ATEN.bmm.out, ATEN.baddbmm.default}
SOLVERS = (("euler", 50), ("euler", 10), ("midpoint", 10), ("midpoint", 5), ("rk4", 5))
# What is asked of the demo: metric, whether as a share of real cells, least, most.
LIMITS = (
    ("w1", True, 0, 1.15), ("c2st_auc", False, 0, 0.75), ("zero_fraction_diff", False, -0.03, 0.03),
    ("variance_ratio", False, 0.8, 1.25), ("gene_mean_pearson", False, 0.98, 1), ("label_accuracy", True, 0.9, 2),
    ("peak_rss_mb", False, 0, 2048), ("seconds", False, 0, 300),
)  # fmt: skip
Rows = Iterator[tuple[str, dict[str, Any]]]


class Bench:
    """A network of random weights on random counts (data do not change the time); `overrides` as for train.py."""

    def __init__(self, overrides: list[str], device: str, genes: int, block: int, n: int = 128):
        keep_freed()
        self.device, nodes = device, plain(compose(overrides))["method"]
        self.plan = build(nodes["training"], "training")
        levels = {name: [f"{name}{i % 10}" for i in range(n)] for name in ("type", "batch")}
        self.obs = pd.DataFrame(levels, index=[f"cell{i}" for i in range(n)])
        blocks = GeneBlocks(tuple(f"g{i}" for i in range(genes)), np.arange(genes) % -(-genes // block), "bench", {})
        conditions = Conditions.fit(self.obs, list(self.obs))
        self.model = Fitted.assemble(nodes, blocks, conditions, list(self.obs), None, seed=0).to(device)
        levels = self.obs.drop_duplicates().to_dict("list")  # technical columns are drawn from them
        self.model.info = {"library_range": (1.0, 1e6), "parts": list(PARTS), "levels": levels, "technical": []}
        counts = torch.poisson(torch.full((n, genes), 0.1))
        cells = CellRows(sp.csr_matrix(counts.numpy()), counts.sum(1).numpy() + 1, conditions.encode(self.obs))
        self.rows = {"cells": cells, "latents": LatentRows(self.model.network, cells, torch.device(device))}

    def steps(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Each stage's name and one optimiser step of it; cells are made dense in it, as in training."""
        for stage in self.plan.stages():
            module = StageModule(self.model.network, stage, self.plan, self.model.sampler.objective, 0, steps=1000)
            optimizer = module.to(self.device).configure_optimizers()["optimizer"]
            noise = StepNoise((0,), 0, 1, torch.device(self.device))

            def step(module=module, optimizer=optimizer, noise=noise, stage=stage) -> None:
                optimizer.zero_grad()
                batch = self.rows[stage.reads].__getitems__(range(len(self.obs)))
                batch = module.transfer_batch_to_device(batch, torch.device(self.device), 0)
                module.losses(batch, noise, 0)["loss"].backward()
                torch.nn.utils.clip_grad_norm_(module.parameters(), self.plan.gradient_clip or 1.0)
                optimizer.step()

            yield stage.name, step

    def seconds(self, call: Callable[[], Any], repeats: int = 5) -> float:
        """Median over calls, after one to warm up."""
        times, clock = [], time.process_time if self.device == "cpu" else time.perf_counter
        for _ in range(repeats + 1):
            started = clock()
            call()
            if self.device != "cpu":
                torch.cuda.synchronize()
            times.append(clock() - started)
        return float(np.median(times[1:]))


class Products(TorchDispatchMode):
    """The matrix products that are computed inside, forwards and backwards, to be computed again by `again`."""

    def __init__(self):
        super().__init__()
        self.calls: list[Callable[[], Any]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        call = partial(func, *args, **(kwargs or {}))
        self.calls += [call] * (func in PRODUCTS)
        return call()

    def again(self) -> None:
        for call in self.calls:
            call()


def attention(overrides: list[str], device: str, genes: int = 19_112) -> Rows:
    times: list[float] = []
    for size in (3200, 600, 1600, 5600, 1):
        bench = Bench(overrides, device, genes, block=size, n=2)
        times.append(bench.seconds(next(bench.steps())[1], repeats=1 if size == 1 else 5))
        yield f"K={size}", {"seconds": times[-1], "of K=3200": times[-1] / times[0]}


def step(overrides: list[str], device: str, sizes: tuple[int, ...] = (2_000, 10_904)) -> Rows:
    for genes in sizes:
        bench = Bench(overrides, device, genes, block=-(-genes // 6))
        for name, one in bench.steps():
            took = bench.seconds(one)
            with Products() as products:
                one()
            matmuls = bench.seconds(products.again)
            yield f"{name}, {genes} genes", {"seconds": took, "matmuls": matmuls, "ratio": took / matmuls}


def sampling(overrides: list[str], device: str) -> Rows:
    bench, n = Bench(overrides, device, 2_000, block=334, n=512), 512
    latent, library = bench.rows["latents"].tensors["mu"].flatten(1).cpu().numpy(), np.full(n, 1000.0)
    took = bench.seconds(lambda: bench.model.decode(latent, bench.obs, library), repeats=2)
    yield "decoding alone", {"cells a second": n / took}
    for method, steps in SOLVERS:
        bench.model.sampler = replace(bench.model.sampler, solver=Solver(method=method, steps=steps))
        took = bench.seconds(lambda: generate(bench.model, bench.obs), repeats=2)
        yield f"{method}, {steps} steps", {"cells a second": n / took}


def trained(device: str, *overrides: str) -> dict[str, Any]:
    """results.json of a `python train.py` of its own; seconds and anonymous memory of the process are among its cost."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "train.py", f"trainer={'cpu' if device == 'cpu' else 'gpu'}", *overrides]
        started, log, most = time.perf_counter(), (Path(folder) / "log").open("w+"), 0
        done = subprocess.Popen([*command, f"paths.outputs={folder}"], cwd=ROOT, stdout=log, stderr=log)
        while done.poll() is None:
            memory = psutil.Process(done.pid).memory_info()  # `shared` are pages of files
            most = max(most, memory.rss - getattr(memory, "shared", 0))
            time.sleep(0.1)
        if done.returncode:
            raise SystemExit(Path(log.name).read_text())
        found = json.loads(next(Path(folder).rglob("results.json")).read_text(encoding="utf-8"))
        found["cost"] |= {"seconds": time.perf_counter() - started, "anonymous_mb": most / 2**20}
    return found


def demo(overrides: list[str], device: str) -> Rows:
    found = trained(device, *overrides)
    ours, real = found["metrics"][found["method"]]["all"] | found["cost"], found["metrics"]["real"]["all"]
    for name, share, least, most in LIMITS:
        measured = ours[name] / real[name] if share else ours[name]
        asked = f"{least} to {most}{' of real' * share}"
        yield name, {"measured": measured, "asked": asked, "met": least <= measured <= most}


def growth(overrides: list[str], device: str, sizes: tuple = (20_000, 80_000, 320_000), genes: int = 2000) -> Rows:
    small = ["data=simulated", f"data.n_genes={genes}", "trainer.limit_steps=20", "blocking=random", "figures=false"]
    for cells in sizes:
        with tempfile.TemporaryDirectory() as cache:  # prepared anew, as at a first run
            cost = trained(device, *small, f"data.n_cells={cells}", f"paths.cache={cache}", *overrides)["cost"]
        kept = ("seconds", "seconds_fit", "seconds_sample", "peak_rss_mb", "anonymous_mb", "peak_device_mb")
        yield f"{cells:,} cells", {name: cost[name] for name in kept if cost.get(name) is not None}


SECTIONS = {one.__name__: one for one in (attention, step, sampling, demo, growth)}
SECTIONS["million"] = partial(growth, sizes=(1_000_000,))
SECTIONS["wide"] = partial(growth, sizes=(300_000,), genes=5000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="as for train.py: backbone=save likelihood=gaussian")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS)[:-2])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("outputs/bench.json"))
    asked = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    record = {"device": device_name("cpu" if asked.device == "cpu" else "gpu"), "overrides": asked.overrides}
    record |= {"git_commit": git_commit(), "versions": versions(), "sources": hashes()}
    for section in asked.only:
        for name, row in SECTIONS[section](asked.overrides, asked.device):
            record.setdefault(section, {})[name] = row
            shown = [f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()]
            print(f"{section:10s} {name:26s}", *shown, sep="  ", flush=True)
            write_json(asked.out, record)  # after every row: one that is stopped keeps what it has


if __name__ == "__main__":
    main()
