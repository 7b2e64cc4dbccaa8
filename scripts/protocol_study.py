"""Two real samples and a Gaussian in the three protocols of generation: what a PCA of the test cells, and not centring, does.

python scripts/protocol_study.py [data=pbmc3k ...] prints the table of docs/protocols.md. Nothing is trained; arguments are
those of train.py. Six splits, the first that of `seed`; all test cells at once, of a larger sample 2,000 at random.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from scsave.baselines.generation import PcaGaussian
from scsave.components import build
from scsave.compose import compose
from scsave.data.gene_selection import select_genes
from scsave.metrics.distribution import squared, w1
from scsave.metrics.generation import GenerationScorer
from scsave.metrics.row import CFGEN_LEGACY, PROTOCOLS
from scsave.metrics.two_sample import c2st_auc
from scsave.runs.main import entry
from scsave.stats.resample import subsample

SPLITS, MOST = 6, 2000


def study(overrides: list[str]) -> pd.DataFrame:
    """One line for each split, protocol and sample: W1, AUC, distance of means, spread along the last five components."""
    cfg = compose(overrides)
    data, split, task, paths = (
        OmegaConf.to_container(cfg[key], resolve=True) for key in ("data", "split", "task", "paths")
    )
    source, cache = build(data, "data").fitted(Path(paths["cache"])), Path(paths["cache"])
    cells, lines = source.load(cache), []
    for seed in range(cfg.seed, cfg.seed + SPLITS):
        drawn = build(split, "split")(cells, source.roles, seed)
        chosen = select_genes(cells, drawn.train, source.n_top_genes, source.min_cells)
        scorer = GenerationScorer(
            chosen[drawn.train], chosen[drawn.test].copy(), source.conditions, source.cell_type_key,
            n_top_genes=task["n_top_genes"], n_components=task["n_components"], seed=seed, protocols=PROTOCOLS,
        )  # fmt: skip
        method = PcaGaussian()
        method.fit(chosen, drawn, source.roles, seed)
        samples = {"real": scorer.real_sample(), method.name: method.generate(scorer.test.obs[source.conditions], seed)}
        for protocol in PROTOCOLS:
            space = scorer.fidelity.spaces[protocol]
            test = space.projection(scorer.test[:, scorer.genes].X[:, space.variable])
            for row, sample in samples.items():
                x = sample[:, scorer.genes].X[:, space.variable]
                found = space.projection(x, centred=protocol != CFGEN_LEGACY)
                one, two = (points[subsample(len(points), MOST, seed)] for points in (found, test))
                line = {"split": seed, "protocol": protocol, "sample": row, "W1": w1(squared(one, two))}
                line |= {
                    "AUC": c2st_auc(one, two, seed),
                    "distance of means": np.linalg.norm(found.mean(0) - test.mean(0)),
                }
                lines.append(line | {"late spread": (found.std(0)[-5:] / test.std(0)[-5:]).mean()})
    return pd.DataFrame(lines)


def main() -> None:
    found = study(sys.argv[1:]).groupby(["protocol", "sample"], sort=False).agg(["first", "min", "max"])
    for (protocol, sample), line in found.drop(columns="split").iterrows():
        texts = [
            f"{name} {first:.2f} ({low:.2f} to {high:.2f})"
            for name, (first, low, high) in line.groupby(level=0, sort=False)
        ]
        print(f"{protocol}, {sample}: {'; '.join(texts)}")


if __name__ == "__main__":
    entry(main)
