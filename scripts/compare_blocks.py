"""How alike the blocks of several schemes are, and what each keeps together: a table over schemes and seeds.

python scripts/compare_blocks.py data=pbmc68k --schemes semantic pathway coexpression random \\
    semantic,vectors=random --seeds 0 1 2 [--sets my.gmt] [--out table.csv]
A scheme may carry overrides after commas. Columns, mean and sd over seeds: `seeds ARI` between the seeds of a scheme,
`first ARI` with the first scheme, `cohesion` in the packaged text vectors, `sets` enriched a block (q < 0.05),
`correlation` of test cells: mean between genes of a block less mean between genes of different blocks.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from describe_blocks import composed, load, scheme_blocks
from scsave.runs.main import entry


def correlation_gap(x, assignment: np.ndarray) -> float:
    """Mean correlation over gene pairs within blocks less that between blocks; x (N, G) log1p, constant genes out."""
    dense = np.asarray(x.toarray(), dtype=np.float64)
    varies = dense.std(0) > 0
    z = (dense[:, varies] - dense[:, varies].mean(0)) / dense[:, varies].std(0)
    block = assignment[varies]
    sums = np.zeros((block.max() + 1, len(z)))
    np.add.at(sums, block, z.T)
    count = np.bincount(block, minlength=len(sums)).astype(float)
    inside = ((sums**2).mean(1) - count).sum()
    pairs_inside = (count * (count - 1)).sum()
    every = (sums.sum(0) ** 2).mean() - count.sum()
    pairs = count.sum() * (count.sum() - 1)
    return float(inside / pairs_inside - (every - inside) / (pairs - pairs_inside))


def run(arguments: list[str]) -> None:
    import pandas as pd
    from sklearn.metrics import adjusted_rand_score

    from scsave.blocking.describe import Sets, cohesion, enrichment
    from scsave.genes.sets import GeneSets
    from scsave.genes.vectors import Packaged

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--schemes", nargs="+", default=["semantic", "pathway", "coexpression", "random"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--sets", default=None, help="a .gmt to look for enrichment in (default: the packaged GO terms)"
    )
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_intermixed_args(arguments)
    context, test = load(composed(options.overrides), group="test")
    member, titles, match = GeneSets(path=options.sets).membership(context.genes, context.organism, context.gene_ids)
    sets = Sets(member, titles, match.found)
    vectors, found = Packaged().lookup(context.genes, context.organism, context.gene_ids)
    made, rows = {}, []
    for scheme in options.schemes:
        name, *more = scheme.split(",")
        for seed in options.seeds:
            config = composed([*options.overrides, *more, f"blocking={name}", f"seed={seed}"])
            config["blocking"]["seed"] = seed
            made[scheme, seed] = blocks = scheme_blocks(config, context)
            table, enriched = cohesion(vectors, found, blocks), enrichment(blocks, sets)
            others = [made[scheme, s].assignment for s in options.seeds if (scheme, s) in made and s != seed]
            rows.append(
                {
                    "scheme": scheme,
                    "blocks": blocks.n_blocks,
                    "coverage": blocks.info.get("coverage", np.nan),
                    "seeds ARI": np.mean([adjusted_rand_score(blocks.assignment, o) for o in others] or [np.nan]),
                    "first ARI": adjusted_rand_score(blocks.assignment, made[options.schemes[0], seed].assignment),
                    "cohesion": table["cohesion"].mean(),
                    "sets": (enriched["q"] < 0.05).sum() / blocks.n_blocks,
                    "correlation": correlation_gap(test.X, blocks.assignment),
                }
            )
    table = pd.DataFrame(rows).groupby("scheme", sort=False).agg(["mean", "std"])
    table = table.drop(columns=[("blocks", "std"), ("coverage", "std"), ("seeds ARI", "std"), ("first ARI", "std")])
    table.columns = [name if kind == "mean" else f"{name} sd" for name, kind in table.columns]
    print(table.to_string(float_format="{:.3f}".format))
    if options.out:
        table.to_csv(options.out)


if __name__ == "__main__":
    entry(lambda: run(sys.argv[1:]))
