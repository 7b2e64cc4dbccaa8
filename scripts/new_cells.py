"""What does it cost a cell not to have been in training? Cells embedded by a model without them, and by one with them.

python scripts/new_cells.py 10x_pbmc3k data=pbmc data.path=pbmc.h5ad data.max_cells=4000     # a batch that training lacks
python scripts/new_cells.py 20% data=pbmc data.path=pbmc.h5ad data.max_cells=4000            # cells of known batches
    [--seeds 0 1 2] [--out outputs/new_cells]
Scored on all cells: scIB, the held-out ones embedded as mode=integrate embeds new cells; and label transfer: each held-out
cell gets the type of most of its 15 nearest neighbours among the labelled others. Raw scores go to
`<out>/<what>/<seed>.json`, made once; `unintegrated` is the floor of both.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from compare_correction import Problem
from compare_runs import config_of, fitted, markdown, over_runs
from scsave import keys
from scsave.errors import UserError
from scsave.files import write_json
from scsave.metrics.integration import UNINTEGRATED
from scsave.runs.main import entry

NEIGHBOURS = 15
COLUMNS = ("total", "bio_conservation", "batch_removal", "transfer_accuracy", "transfer_recall")


def transfer(embedding: np.ndarray, labels: np.ndarray, known: np.ndarray, asked: np.ndarray) -> dict[str, float]:
    """Types of cells `asked` by their neighbours among `known`, (N,) bool each, for types that `known` has.

    Accuracy over cells, and recall averaged over types.
    """
    from sklearn.neighbors import KNeighborsClassifier

    asked = asked & np.isin(labels, np.unique(labels[known]))
    guessed = KNeighborsClassifier(NEIGHBOURS).fit(embedding[known], labels[known]).predict(embedding[asked])
    right = pd.Series(guessed == labels[asked]).groupby(labels[asked])
    return {
        "transfer_accuracy": float((guessed == labels[asked]).mean()),
        "transfer_recall": float(right.mean().mean()),
    }


def embedded(problem: Problem, overrides: list[str], without: np.ndarray) -> dict[str, np.ndarray]:
    """Latent means and components of all cells, (N, D), of a model that was not shown the cells `without`, (N,) bool."""
    from scsave.data.gene_selection import select_genes
    from scsave.data.splits.split import make_split

    groups = {name: rows[~without[rows]] for name, rows in problem.split.groups.items()}
    split = make_split(groups, problem.cells.obs_names, "all", allow_no_test=True)
    data = select_genes(problem.cells, split.train, problem.source.n_top_genes, problem.source.min_cells)
    cells = fitted(config_of(overrides), problem.source, data, split, problem.seed).integrate(data, problem.seed)
    return {"latent": cells.obsm[keys.LATENT], "components": cells.obsm[keys.COMPONENTS]}


def held_out(what: str, batches: np.ndarray, problem: Problem) -> np.ndarray:
    """Which cells are new, (N,) bool: those of a batch, or a share ("20%") drawn by the seed. UserError for anything else."""
    if what in batches:
        if what in problem.task.unlabelled_batches:
            raise UserError(
                f"{what}: its labels are not to be trusted (task.unlabelled_batches), so nothing can be scored"
            )
        return batches == what
    try:
        share = float(what.removesuffix("%")) / 100 if what.endswith("%") else 0.0
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        levels = ", ".join(np.unique(batches))
        raise UserError(f"{what}: neither a share such as 20% nor a level of {problem.source.batch_key}: {levels}")
    return np.random.default_rng(problem.seed).random(len(batches)) < share


def measure(what: str, overrides: list[str]) -> dict[str, dict[str, float]]:
    problem = Problem(overrides)
    batches = problem.cells.obs[problem.source.batch_key].astype(str).to_numpy()
    labels = problem.cells.obs[problem.source.cell_type_key].astype(str).to_numpy()
    held, trusted = held_out(what, batches, problem), ~np.isin(batches, problem.task.unlabelled_batches)
    models = {"trained with them": np.zeros_like(held), "trained without them": held}
    embeddings = {
        f"{model}: {part}": found
        for model, without in models.items()
        for part, found in embedded(problem, overrides, without).items()
    }
    scores = {name: row[keys.ALL] for name, row in problem.scorer.score(embeddings).items()}
    for name, embedding in (embeddings | {UNINTEGRATED: problem.scorer.unintegrated}).items():
        if len(embedding) == len(held):  # the floor is of the scored cells, all of them below task.max_cells
            scores[name] |= transfer(embedding, labels, ~held & trusted, held & trusted)
    return scores


def run(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", help="a batch, or a share of all cells such as 20%%")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("outputs/new_cells"))
    options = parser.parse_args(arguments)
    found: dict[str, list[dict[str, float]]] = {}
    for seed in options.seeds:
        path = options.out / options.what / f"{seed}.json"
        if not path.exists():
            given = ["task=batch_correction", *options.overrides, f"seed={seed}", "figures=false"]
            write_json(path, measure(options.what, given))
        for name, row in json.loads(path.read_text()).items():
            found.setdefault(name, []).append(row)
    rows = {name: over_runs(runs, COLUMNS) for name, runs in found.items()}
    print(markdown(pd.DataFrame(rows).T, options.what))


if __name__ == "__main__":
    entry(lambda: run(sys.argv[1:]))
