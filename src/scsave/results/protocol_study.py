"""The same cells in the three protocols: what fitting the PCA on test cells, and not centring, does to a number.

evaluation.md, "Generation". Nothing is trained: real cells, the cells of a run (or of a Gaussian), and the scorer's own spaces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scsave.errors import UserError
from scsave.metrics.row import CFGEN_LEGACY, PROTOCOLS

if TYPE_CHECKING:
    from anndata import AnnData

    from scsave.data.source import DataSource
    from scsave.data.splits.split import Split
    from scsave.metrics.generation import GenerationScorer

REAL = "real"  # the second real sample
DRAWN = 600  # cells of a sample that are drawn, at most
MOST = 2000  # cells of a sample that are compared, at most: the scorer's own limit
Say = Callable[[str], None]


@dataclass
class Seen:
    """One sample against the test cells in one protocol, all test cells at once."""

    points: list[list[float]]  # first two components
    spread: list[float]  # sd along each component
    w1: float
    c2st: float  # 0.5: a classifier can't tell the sample from the test cells
    offset: float  # distance between the two means


@dataclass
class Study:
    """What the report shows; `seen[protocol][row]`, `test[protocol]` are the test cells themselves."""

    data: str
    source: str  # where the generated cells are from
    rows: list[str]
    train_cells: int
    test_cells: int
    components: dict[str, int]
    seen: dict[str, dict[str, Seen]]
    test: dict[str, dict[str, list]]
    repeats: dict[str, dict[str, list[float]]] = field(default_factory=dict)  # two real samples, other splits

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Study:
        """The study that `plain()` wrote."""
        seen = {
            protocol: {name: Seen(**one) for name, one in samples.items()}
            for protocol, samples in plain["seen"].items()
        }
        return cls(**plain | {"seen": seen})


def study(
    scorer: GenerationScorer, generated: AnnData, row: str, data: str, source: str, say: Say = lambda _: None
) -> Study:
    """Two real samples and `generated` (the row's name is `row`) seen in every protocol of `scorer`."""
    from scsave.metrics.cells import expression

    fitted = scorer.fidelity
    samples = {REAL: scorer.real_sample(), row: generated}
    x = {
        name: expression(cells, name, scorer.genes)[:, fitted.spaces[PROTOCOLS[0]].variable]
        for name, cells in {"": scorer.test, **samples}.items()
    }
    first = fitted.spaces[PROTOCOLS[0]].projection.components[:, :2]
    seen: dict[str, dict[str, Seen]] = {}
    test: dict[str, dict[str, list]] = {}
    for protocol in PROTOCOLS:
        say(f"cells in protocol {protocol}")
        project = fitted.spaces[protocol].projection
        # components have no sign: turned so that the panels of all protocols look alike
        sign = np.where((project.components[:, :2] * first).sum(axis=0) < 0, -1.0, 1.0)
        real = project(x[""])
        test[protocol] = {"points": _drawn(real, sign, scorer.seed), "spread": real.std(axis=0).tolist()}
        seen[protocol] = {
            name: _seen(project(x[name], centred=protocol != CFGEN_LEGACY), real, sign, scorer.seed) for name in samples
        }
    return Study(
        data=data,
        source=source,
        rows=list(samples),
        train_cells=scorer.info["reference_cells"],
        test_cells=len(real),
        components=scorer.info["components"],
        seen=seen,
        test=test,
    )


def _seen(cells: np.ndarray, real: np.ndarray, sign: np.ndarray, seed: int) -> Seen:
    w1, c2st = told_apart(cells, real, seed)
    return Seen(
        points=_drawn(cells, sign, seed),
        spread=cells.std(axis=0).tolist(),
        w1=w1,
        c2st=c2st,
        offset=float(np.linalg.norm(cells.mean(axis=0) - real.mean(axis=0))),
    )


def told_apart(cells: np.ndarray, real: np.ndarray, seed: int) -> tuple[float, float]:
    """W1 and classifier AUC of two samples (N, D), (M, D) in one space; of random `MOST` of a larger one."""
    from scsave.metrics.distribution import squared, w1
    from scsave.metrics.two_sample import c2st_auc
    from scsave.stats.resample import subsample

    cells, real = (x[subsample(len(x), MOST, seed)] for x in (cells, real))
    return w1(squared(cells, real)), c2st_auc(cells, real, seed)


def _drawn(cells: np.ndarray, sign: np.ndarray, seed: int) -> list[list[float]]:
    from scsave.stats.resample import subsample

    return (cells[subsample(len(cells), DRAWN, seed), :2] * sign).round(3).tolist()


def repeats(
    make: Callable[[int], GenerationScorer], seeds: list[int], say: Say = lambda _: None
) -> dict[str, dict[str, list[float]]]:
    """Two real samples in other splits: protocol -> {"w1": one a seed, "c2st": ...}; how far chance moves the finding."""
    from scsave.metrics.cells import expression

    found: dict[str, dict[str, list[float]]] = {protocol: {"w1": [], "c2st": []} for protocol in PROTOCOLS}
    for seed in seeds:
        say(f"two real samples, split of seed {seed}")
        scorer = make(seed)
        variable = scorer.fidelity.spaces[PROTOCOLS[0]].variable
        real, test = (
            expression(cells, REAL, scorer.genes)[:, variable] for cells in (scorer.real_sample(), scorer.test)
        )
        for protocol in PROTOCOLS:
            project = scorer.fidelity.spaces[protocol].projection
            w1, c2st = told_apart(project(real, centred=protocol != CFGEN_LEGACY), project(test), seed)
            found[protocol]["w1"].append(w1)
            found[protocol]["c2st"].append(c2st)
    return found


def make_scorer(cells: AnnData, source: DataSource, split: Split, task: dict[str, Any], seed: int) -> GenerationScorer:
    """The scorer that a run with this config node `task` has."""
    from scsave.data.gene_selection import select_genes
    from scsave.metrics.generation import GenerationScorer

    data = select_genes(cells, split.train, source.n_top_genes, source.min_cells)
    return GenerationScorer(
        data[split.train].copy(),
        data[split.test].copy(),
        source.conditions,
        source.cell_type_key,
        n_top_genes=task["n_top_genes"],
        n_components=task["n_components"],
        seed=seed,
        protocols=PROTOCOLS,
    )


def study_of_run(folder: Path, results: dict[str, Any], seeds: list[int], say: Say = lambda _: None) -> Study:
    """The study of a generation run's own test and generated cells; UserError where a file of the run is missing."""
    import anndata

    from scsave.components import build
    from scsave.data.splits.split import Split

    config, path = results["config"], folder / "generated.h5ad"
    if not path.is_file():
        raise UserError(f"{folder}: no generated.h5ad there; run it again: python train.py resume={folder}")
    cache = Path(config["paths"]["cache"])
    source = build(config["data"], "data").fitted(cache)
    cells = source.load(cache)
    split = Split.load(folder / "split.csv", cells.obs_names)
    scorer = make_scorer(cells, source, split, config["task"], config["seed"])
    found = study(scorer, anndata.read_h5ad(path), results["method"], source.name, str(folder), say)
    found.repeats = _repeats(cells, source, config, seeds, say)
    return found


def study_without_run(config: dict[str, Any], seeds: list[int], say: Say = lambda _: None) -> Study:
    """The same where no run generated cells yet: a Gaussian in PCA space, fitted here, generates them."""
    from scsave.baselines.generation import PcaGaussian
    from scsave.components import build
    from scsave.data.gene_selection import select_genes

    cache = Path(config["paths"]["cache"])
    source = build(config["data"], "data").fitted(cache)
    cells = source.load(cache)
    split = build(config["split"], "split")(cells, source, config["seed"])
    scorer = make_scorer(cells, source, split, config["task"], config["seed"])
    method = PcaGaussian()
    method.fit(select_genes(cells, split.train, source.n_top_genes, source.min_cells), split, source, config["seed"])
    generated = method.generate(scorer.test.obs[source.conditions], seed=config["seed"])
    found = study(scorer, generated, method.name, source.name, "", say)
    found.repeats = _repeats(cells, source, config, seeds, say)
    return found


def _repeats(cells: AnnData, source: DataSource, config: dict[str, Any], seeds: list[int], say: Say) -> dict:
    from scsave.components import build

    def make(seed: int) -> GenerationScorer:
        return make_scorer(cells, source, build(config["split"], "split")(cells, source, seed), config["task"], seed)

    return repeats(make, seeds, say) if seeds else {}
