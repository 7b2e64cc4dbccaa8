"""Step time of one token a gene (K = 1) against blocks of K genes, at 19,112 genes (paper, table 7: 191 times).

    python scripts/bench_attention.py [--genes 19112] [--block-sizes 600 1600 3200 5600] [--batch 2] [--device cpu]

The same network, autoencoder step forwards and backwards; only the blocks differ. Prints one line a K.
"""

import argparse
import time

import numpy as np
import pandas as pd
import torch

from scsave.blocking.blocks import GeneBlocks
from scsave.data.conditions import Conditions
from scsave.models.backbone import AttentionBackbone
from scsave.models.likelihoods import NegativeBinomial
from scsave.models.model import SAVEModel
from scsave.runs.record import device_name


def blocks_of(n_genes: int, block_size: int) -> GeneBlocks:
    n_blocks = -(-n_genes // block_size)
    return GeneBlocks(tuple(f"g{i}" for i in range(n_genes)), np.arange(n_genes) % n_blocks, f"K={block_size}", {})


def seconds_a_step(n_genes: int, block_size: int, batch: int, device: str, repeats: int) -> float:
    """Median over `repeats` steps, after one to warm up."""
    obs = pd.DataFrame({"cell_type": ["a", "b"] * batch}).iloc[:batch]
    conditions = Conditions.fit(obs, ["cell_type"])
    backbone = AttentionBackbone(width=64, depth=2, heads=4, latent_width=4, velocity_width=16, velocity_depth=1)
    model = SAVEModel(backbone, blocks_of(n_genes, block_size), NegativeBinomial(), conditions, ["cell_type"]).to(
        device
    )
    model.velocity = None  # the autoencoder is what the paper's table is about
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    counts = torch.poisson(torch.full((batch, n_genes), 0.1)).to(device)
    library, values = counts.sum(1) + 1, {k: v.to(device) for k, v in conditions.encode(obs).items()}

    def step() -> None:
        q = model.encode(model.scaled(counts, library))
        out = model.decode(q.sample(torch.randn_like(q.mu)), values)
        loss = (q.kl() - model.likelihood(out, library).log_prob(counts)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if device != "cpu":
            torch.cuda.synchronize()

    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return float(np.median(times[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--genes", type=int, default=19112)
    parser.add_argument("--block-sizes", type=int, nargs="+", default=[600, 1600, 3200, 5600])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    print(f"{device_name('cpu' if asked.device == 'cpu' else 'gpu')}, batch {asked.batch}, {asked.genes} genes")
    times = {}
    for size in dict.fromkeys([3200, *asked.block_sizes, 1]):
        times[size] = seconds_a_step(asked.genes, size, asked.batch, asked.device, asked.repeats)
        n = -(-asked.genes // size)
        print(
            f"K={size:5d}  L={n:6d}  {times[size]:9.4f} s a step  {times[size] / times[3200]:8.1f} x K=3200", flush=True
        )


if __name__ == "__main__":
    main()
