"""What the study claims: a PCA of the test cells tells real from real, a missing mean moves all cells by one constant."""

import json
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from scsave.results.protocol_study import (
    DRAWN,
    REAL,
    Study,
    make_scorer,
    study,
    study_of_run,
    study_without_run,
    told_apart,
)

from scsave.baselines.generation import PcaGaussian
from scsave.components import build
from scsave.data.source import select_genes
from scsave.errors import UserError
from scsave.files import write_h5ad, write_json
from scsave.metrics.row import CFGEN, CFGEN_LEGACY, NEUTRAL, PROTOCOLS
from scsave.runs.main import register_resolvers

from ..conftest import CELLS, ROOT


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """240 cells of 300 genes: 50 test cells, so that a PCA of them is their own."""
    cells = [override.replace("data.n_genes=48", "data.n_genes=300") for override in CELLS]
    folder = tmp_path_factory.mktemp("study")
    register_resolvers()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("train", [*cells, "task.n_components=20", f"paths.cache={folder}"])
    nodes = {key: OmegaConf.to_container(cfg[key], resolve=True) for key in ("data", "split", "task", "paths")}
    return nodes | {"seed": 0}


@pytest.fixture(scope="module")
def found(config) -> Study:
    return study_without_run(config, [1])


def test_two_real_samples_are_told_apart_where_the_pca_has_seen_one_of_them(found):
    real = {protocol: found.seen[protocol][REAL] for protocol in PROTOCOLS}
    assert found.rows == [REAL, "pca_gaussian"]
    assert real[NEUTRAL].w1 < real[CFGEN].w1 < real[CFGEN_LEGACY].w1
    assert abs(real[NEUTRAL].c2st - 0.5) < 0.15 < real[CFGEN].c2st - 0.5
    for protocol in PROTOCOLS:
        assert len(found.repeats[protocol]["w1"]) == len(found.repeats[protocol]["c2st"]) == 1
        assert found.repeats[protocol]["w1"][0] != pytest.approx(found.seen[protocol][REAL].w1)


def test_a_mean_that_is_not_subtracted_moves_every_cell_by_the_same(found):
    for row in found.rows:
        plain, legacy = (np.array(found.seen[protocol][row].points) for protocol in (CFGEN, CFGEN_LEGACY))
        moved = legacy - plain
        np.testing.assert_allclose(moved, moved[:1].repeat(len(moved), axis=0), atol=2e-3)  # points are rounded
        assert found.seen[CFGEN_LEGACY][row].spread == pytest.approx(found.seen[CFGEN][row].spread)
        assert found.seen[CFGEN_LEGACY][row].offset > 3 * found.seen[CFGEN][row].offset
    assert found.test[CFGEN] == found.test[CFGEN_LEGACY]


def test_the_numbers_are_those_of_a_scorer_s_spaces(found, config):
    """Spread and offset of the neutral space, from the projection itself."""
    source, cache = build(config["data"], "data"), Path(config["paths"]["cache"])
    cells = source.load(cache)
    split = build(config["split"], "split")(cells, source, 0)
    scorer = make_scorer(cells, source, split, config["task"], 0)
    project = scorer.fidelity.projections[NEUTRAL]
    test, real = (project(part.X[:, scorer.fidelity.variable]) for part in (scorer.test, scorer.real_sample()))
    assert found.test[NEUTRAL]["spread"] == pytest.approx(test.std(axis=0).tolist())
    assert found.seen[NEUTRAL][REAL].offset == pytest.approx(np.linalg.norm(real.mean(axis=0) - test.mean(axis=0)))
    assert found.test_cells == len(test)
    assert found.components == dict.fromkeys(PROTOCOLS, 20)


def test_a_study_is_read_back_as_it_was_written(found, tmp_path):
    write_json(tmp_path / "study.json", found.plain())
    assert Study.of(json.loads((tmp_path / "study.json").read_text())) == found


def test_the_cells_of_a_run_are_those_that_it_wrote(config, tmp_path):
    source = build(config["data"], "data")
    cells = source.load(Path(config["paths"]["cache"]))
    split = build(config["split"], "split")(cells, source, 0)
    folder = tmp_path / "run"
    results = {"config": config, "method": "pca_gaussian"}
    folder.mkdir()
    split.save(folder / "split.csv", cells.obs_names)
    with pytest.raises(UserError, match=r"no generated.h5ad there; run it again: python train.py resume="):
        study_of_run(folder, results, [])
    scorer = make_scorer(cells, source, split, config["task"], 0)
    method = PcaGaussian()
    method.fit(select_genes(cells, split.train, source.n_top_genes, source.min_cells), split, source.roles, 0)
    write_h5ad(folder / "generated.h5ad", method.generate(scorer.test.obs[source.conditions], seed=0))
    of_run = study_of_run(folder, results, [])
    without = study_without_run(config, [])
    assert of_run.source == str(folder)
    assert of_run.seen[NEUTRAL]["pca_gaussian"].w1 == pytest.approx(without.seen[NEUTRAL]["pca_gaussian"].w1, rel=1e-4)
    assert of_run.repeats == {}


def test_equal_samples_can_not_be_told_apart_and_large_ones_are_thinned():
    x = np.random.default_rng(0).normal(size=(DRAWN, 4))
    w1, auc = told_apart(x, x.copy(), seed=0)
    assert w1 == pytest.approx(0, abs=1e-9)
    assert auc < 0.6
    assert told_apart(x, x + 5.0, seed=0)[0] == pytest.approx(10.0, rel=0.05)  # a shift of 5 in four dimensions


def test_cells_without_a_known_gene_are_refused(found, config):
    """The scorer's own check reaches the study."""
    source = build(config["data"], "data")
    cells = source.load(Path(config["paths"]["cache"]))
    split = build(config["split"], "split")(cells, source, 0)
    scorer = make_scorer(cells, source, split, config["task"], 0)
    with pytest.raises(UserError, match="genes differ"):
        study(scorer, AnnData(np.ones((3, 2), dtype=np.float32)), "x", "simulated", "")
