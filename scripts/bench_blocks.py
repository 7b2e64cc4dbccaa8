"""How long the partitioner takes: 19,112 genes with 1,536-number vectors into 6 and into 200 blocks.

python scripts/bench_blocks.py [--genes 19112] [--width 1536] [--blocks 6 200] [--seed 0]
"""

import argparse
import time

import numpy as np

from scsave.blocking.transport import partition


def topic_vectors(n_genes: int, width: int, n_topics: int, seed: int) -> np.ndarray:
    """(G, d) float32 unit vectors around unequally frequent topics: the shape of text embeddings."""
    rng = np.random.default_rng(seed)
    topics = rng.normal(size=(n_topics, width)).astype(np.float32)
    share = rng.dirichlet(np.full(n_topics, 0.5))
    vectors = topics[rng.choice(n_topics, n_genes, p=share)] + rng.normal(size=(n_genes, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--genes", type=int, default=19112)
    parser.add_argument("--width", type=int, default=1536)
    parser.add_argument("--blocks", type=int, nargs="+", default=[6, 200])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    vectors = topic_vectors(options.genes, options.width, 300, options.seed)
    partition(vectors[:100, :8], 2, seed=0)  # the imports are not what is timed
    partition(topic_vectors(6_000, 8, 10, 0), 10, seed=0)
    print(f"{options.genes} genes, {options.width} numbers each")
    for n_blocks in options.blocks:
        start = time.perf_counter()
        result = partition(vectors, n_blocks, seed=options.seed)
        seconds = time.perf_counter() - start
        sizes = np.bincount(result.assignment)
        print(
            f"{n_blocks:5d} blocks: {seconds:6.1f} s  {result.solver}, {len(result.objective) - 1} steps, "
            f"converged {result.converged}, sizes {sizes.min()}-{sizes.max()}, "
            f"objective {result.objective[0]:.1f} -> {result.objective[-1]:.1f}"
        )


if __name__ == "__main__":
    main()
