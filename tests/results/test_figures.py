"""Pictures of one run: what they are made of, and `draw_run` on the files of a run of each task."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from anndata import AnnData
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from scsave import keys
from scsave.components import build
from scsave.data.preprocess import select_genes
from scsave.files import slug, write_h5ad
from scsave.results.cell_figures import joint_umap, marker_genes, scatter
from scsave.results.change_figures import agreement, draw_predicted, draw_trust
from scsave.results.figures import HALVES, draw_attention, draw_run
from scsave.results.style import level_colors, panels
from scsave.runs.attention import long_table

from ..conftest import CELLS, ROOT
from .test_make_figures import inked
from .written import write


def marked() -> AnnData:
    """Three types of 40, 20 and 10 cells, each with a gene of its own; a second one of type a; a gene that all have."""
    x, kind = np.zeros((70, 6), np.float32), np.repeat(["a", "b", "c"], [40, 20, 10])
    x[kind == "a", 0], x[kind == "b", 1], x[kind == "c", 2] = 3.0, 2.0, 1.0
    x[kind == "a", 3], x[:, 4] = 2.5, 5.0
    x += np.random.default_rng(0).uniform(0, 0.1, x.shape).astype(np.float32)  # a t-test needs some variance
    return AnnData(sp.csr_matrix(x), pd.DataFrame({"kind": kind}, index=[f"c{n}" for n in range(70)]))


def test_markers_are_of_several_levels():
    assert marker_genes(marked(), "kind", 3) == {"0": "a", "1": "b", "2": "c"}
    assert marker_genes(marked(), "kind", 4)["3"] == "a"


def test_without_levels_the_genes_that_vary_most():
    assert list(marker_genes(marked(), None, 2)) == ["0", "3"]
    one = marked()
    one.obs["kind"] = "only"
    assert marker_genes(one, "kind", 2) == {"0": "", "3": ""}


def test_a_umap_leaves_torch_its_threads(monkeypatch):
    import scanpy as sc

    def greedy(cells, **options):
        """As numba's layers do on some machines."""
        torch.set_num_threads(2)
        cells.obsm["X_umap"] = cells.obsm["X_pca"][:, :2]

    monkeypatch.setattr(sc.tl, "umap", greedy)
    torch.set_num_threads(1)
    placed = joint_umap({"one": marked(), "two": marked()})
    assert torch.get_num_threads() == 1
    assert placed.obs["cells"].value_counts().to_dict() == {"one": 70, "two": 70}


def test_named_genes_stand_inside_a_square_of_one_scale():
    rng = np.random.default_rng(0)
    x = np.concatenate([[-3.0, -2.0, 1.0, 1.01, 1.02], rng.normal(0, 0.1, 50)])
    fig, (ax,) = panels(1)
    agreement(ax, x, 0.3 * x, [f"gene {n}" for n in range(55)], np.arange(5))
    assert ax.get_xlim() == ax.get_ylim()
    assert ax.get_box_aspect() == 1
    at = {text.get_text(): np.array(text.get_position()) for text in ax.texts}
    assert set(at) == {f"gene {n}" for n in range(5)}
    assert all((place >= 0).all() and (place <= 1).all() for place in at.values())
    apart = [np.abs(one - two).max() for one in at.values() for two in at.values() if one is not two]
    assert min(apart) > 0.07
    fig.clf()


def test_levels_have_markers_of_their_own_and_take_turns():
    at = np.random.default_rng(0).normal(size=(90, 2))
    obs = pd.DataFrame({"kind": np.repeat(["a", "b", "c"], 30)}, index=list(map(str, range(90))))
    cells = AnnData(obs=obs, obsm={"X_umap": at})
    fig, (ax,) = panels(1)
    colors = dict(zip("abc", level_colors(3), strict=True))
    scatter(ax, cells, "kind", (obs["kind"] != "c").to_numpy(), colors, "title", True)
    drawn = [len(part.get_offsets()) for part in ax.collections]
    assert drawn[0] == 30  # the others, in grey and behind
    assert sum(drawn[1:]) == 60
    assert max(drawn[1:]) <= 8
    handles = ax.get_legend().legend_handles
    assert len({handle.get_marker() for handle in handles}) == len(handles) == 3
    low, high = np.array([ax.get_xlim(), ax.get_ylim()]).T
    assert (low < at.min(axis=0)).all()
    assert (high > at.max(axis=0)).all()
    assert ((high - low) < 1.1 * np.ptp(at, axis=0)).all()  # filled
    fig.clf()


def test_levels_have_colours_of_their_own():
    for n in (2, 10, 11, 20):
        colors = np.array(level_colors(n))
        assert colors.shape == (n, 3)
        distances = np.linalg.norm(colors[:, None] - colors[None], axis=2)[np.triu_indices(n, 1)]
        assert distances.min() > 0.05
    near = np.array(level_colors(12))
    assert np.linalg.norm(np.diff(near, axis=0), axis=1).min() > 0.25  # no pale twin stands beside its dark one


@pytest.fixture
def kept(monkeypatch):
    """Figures that are drawn, in place of their files."""
    found = []
    for module in ("figures", "style"):
        monkeypatch.setattr(f"scsave.results.{module}.save", lambda fig, path: found.append(fig) or path)
    yield found
    for fig in found:
        fig.clf()


def test_attention_of_networks_with_and_without_the_library_size(tmp_path, kept):
    labels, rng = ["a", *HALVES, "a level of a long name"], np.random.default_rng(0)
    weights = {"encoder/0": rng.dirichlet(np.ones(2), (4, 2)), "velocity/0": rng.dirichlet(np.ones(3), (4, 3))}
    for stack in weights.values():
        stack[1:] = stack[0]
        stack[3, 0, :2] += [0.1, -0.1]
    draw_attention(tmp_path / "a.png", long_table(labels, weights), 6, ["0 blood", "1 bone"])
    panels = [ax for ax in kept[0].axes if ax.images]
    shapes = [ax.images[0].get_array().shape for ax in panels]
    assert shapes == [(2, 2)] * 3 + [(3, 3)] * 3
    assert all(np.isfinite(ax.images[0].get_array()).all() for ax in panels)
    assert panels[2].get_title() == "a level of a long\nname\nlargest 0.100"
    assert [text.get_text() for text in panels[2].texts] == ["+", "-"]  # a print without colours can be read
    assert [text.get_text() for text in panels[3].get_yticklabels()] == ["0 blood", "1 bone", "library size"]
    assert len(kept[0].axes) == 10  # six panels, and two bars a network


def test_what_trust_missed_has_a_marker_of_its_own(tmp_path, kept):
    one = {"expected_pcc": 0.8, "low": 0.7, "high": 0.9}
    run = pd.Series(
        {"method": "save", "info": {"trust": {"in": one | {"reached": 0.75}, "out": one | {"reached": 0.2}}}}
    )
    draw_trust(tmp_path / "trust.png", run)
    marks = {part.get_label(): part for part in kept[0].axes[0].collections}
    paths = [marks[name].get_paths()[0].vertices for name in ("reached", "outside")]
    assert paths[0].shape != paths[1].shape
    assert marks["outside"].get_offsets()[:, 0].tolist() == [0.2]


def test_a_prediction_s_picture_has_the_genes_that_change_most_and_what_to_expect(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr("scsave.results.style.save", lambda fig, path: kept.append(fig))
    rows = [
        {"target": target, "gene": f"g{n}", "change": sign * n, "low": sign * n - 1.5, "high": sign * n + 1.5,
         "direction": "unclear" if n < 2 else "up", "interval_over": "2 donors", "in_file": n != 19}
        for target, sign in (("A", 1.0), ("B+C", -1.0)) for n in range(20)
    ]  # fmt: skip
    trust = pd.DataFrame(
        {"expected_pcc": [0.8, np.nan], "low": [0.7, np.nan], "high": [0.9, np.nan]}, index=["A", "B+C"]
    )
    draw_predicted(tmp_path / "per_gene.png", pd.DataFrame(rows), trust)
    first, second = kept[0].axes
    assert [label.get_text() for label in first.get_yticklabels()] == [
        f"g{n}" for n in range(4, 19)
    ]  # g19 is not in the file
    assert first.get_title() == "A\nexpected change-PCC 0.80 (0.70 to 0.90)"
    assert second.get_title() == "B+C\nexpected change-PCC not known"
    assert (second.collections[-1].get_offsets()[:, 0] < 0).all()


class Run:
    """A run's folder on simulated cells: `scores` below it, its split beside the weights."""

    def __init__(self, folder, overrides=()):
        from scsave.runs.main import register_resolvers

        register_resolvers()
        with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            cfg = compose("train", [*CELLS, *overrides, f"paths.cache={folder / 'cache'}"])
        self.config = OmegaConf.to_container(cfg, resolve=True)
        source = build(self.config["data"], "data")
        self.columns, cells = source.roles, source.load(folder / "cache")
        strategy = build(self.config["split"], "split")
        folds = strategy.folds(cells, self.columns) if hasattr(strategy, "folds") else {"": strategy}
        self.weights, self.scores = folder / "run", folder / "run" / "scores" / "task-0123"
        self.splits = {name: fold(cells, self.columns, 0) for name, fold in folds.items()}
        for name, split in self.splits.items():
            where = self.weights / "folds" / slug(name) if name else self.weights
            where.mkdir(parents=True, exist_ok=True)
            split.save(where / "split.csv", cells.obs_names)
        self.cells = select_genes(cells, next(iter(self.splits.values())).train, None, 0)

    def record(self, metrics, **changes):
        path = write(self.scores, metrics, **changes)
        content = json.loads(path.read_text()) | {"config": self.config}
        path.write_text(json.dumps(content))

    def drawn(self) -> set[str]:
        paths = draw_run(self.scores)
        assert {path.parent for path in paths} == {self.scores / "figures"}
        assert all(inked(path) > 0.005 for path in paths)
        return {path.name for path in paths}


def test_pictures_of_generated_cells(tmp_path):
    run = Run(tmp_path)
    write_h5ad(run.scores / "generated.h5ad", run.cells[run.splits[""].test[::2]].copy())
    logs = run.weights / "logs" / "flow"
    logs.mkdir(parents=True)
    (logs / "metrics.csv").write_text("step,flow/train_loss,flow/val_loss\n1,3.0,\n2,2.0,2.5\n")
    run.record({"save": {"w1": 1.0}})
    assert run.drawn() == {"umap.png", "genes.png", "violins.png", "loss.png"}


def test_pictures_of_an_integration(tmp_path):
    run = Run(tmp_path, ["task=batch_correction"])
    cells = AnnData(obs=run.cells.obs)
    points = np.random.default_rng(0).normal(size=(cells.n_obs, 6)).astype(np.float32)
    cells.obsm.update({keys.LATENT: points, keys.COMPONENTS: points[:, :4], keys.UNCORRECTED: points.copy()})
    cells.obsm[keys.UNCORRECTED][::3] = np.nan  # cells that were not scored
    write_h5ad(run.scores / "integrated.h5ad", cells)
    run.record({"save": {"total": 1.0}}, task="batch_correction", registry="batch_correction", info={})
    assert run.drawn() == {"umap.png"}


def test_pictures_of_responses_of_types_held_out_in_turn(tmp_path):
    run = Run(tmp_path, ["task=perturbation"])
    columns, level = run.columns, run.cells.obs["treatment"].astype(str)
    kind = run.cells.obs["cell_type"].astype(str)
    (target,) = set(level) - {columns.control}
    genes = list(run.cells.var_names[:8])
    assert len(run.splits) == 3
    for name in run.splits:
        control = run.cells[(kind == name) & (level == columns.control)]
        write_h5ad(run.scores / "predictions" / f"{slug(name)}.h5ad", control.copy())
    info = {"types": {name: {"de_genes": genes} for name in run.splits}, "target": target}
    values = {"pcc_delta": 0.5, "r2": 0.9, "w1": 2.0, "energy": 1.0}
    rows = {"save": values, "no_change": values, "ceiling": values}
    groups = {row: dict.fromkeys(run.splits, values) for row in rows}
    run.record(rows, groups=groups, task="perturbation", registry="response", info=info)
    of_types = {f"{name}_{kind}.png" for name in run.splits for kind in ("umap", "means", "violins")}
    assert run.drawn() == {"types.png"} | of_types


@pytest.mark.parametrize("doubles", [True, False])
def test_pictures_of_perturbed_genes_need_no_cells(tmp_path, doubles):
    rng, names = np.random.default_rng(0), np.array(["A", "B", "C", "A+B", "B+C"] if doubles else ["A", "B"])
    changes = {key: rng.normal(size=(len(names), 30)) for key in ("truth", "change", "additive")}
    changes["additive"][0] = np.nan  # a single that was not seen
    scores = tmp_path / "scores" / "task-0123"
    values = {"energy": 2.0, "pcc_delta_centroid": 0.5, "l2_top1000": 3.0, "discrimination": 0.7}
    pairs = {name: [value - 0.1, value + 0.1] for name, value in values.items()} | {"energy": [None, None]}
    metrics = {"save": values, "ceiling": values}
    info = {
        "intervals": {row: {"all": pairs} for row in metrics},
        "counts": {"all": len(names)},
        "group_of": {},
        "per_perturbation": {"save": {name: {"pcc_delta": 0.1 * n} for n, name in enumerate(names)}},
        "interactions": {"save": 0.4} if doubles else {},
    }
    write(scores, metrics, task="perturbation", registry="genetic", info=info)
    np.savez_compressed(
        scores / "changes.npz", perturbations=names, panel=np.array([f"G{n}" for n in range(30)]), **changes
    )
    paths = draw_run(scores)
    assert {path.name for path in paths} == {"groups.png", "perturbations.png"} | (
        {"interactions.png"} if doubles else set()
    )
    assert all(inked(path) > 0.005 for path in paths)
