"""Every option of every group composes, is accepted by the schema, and runs; what is wrong ends in one line."""

from pathlib import Path

import numpy as np
import pytest
import torch

from scsave import SAVE
from scsave.components import build
from scsave.data.preprocess import select_genes
from scsave.errors import UserError
from scsave.runs.config import validated
from scsave.runs.folds import fit_options
from scsave.runs.reproduce import expand, experiments

from .conftest import CELLS, ROOT

KNOWING = ("blocking=semantic", "blocking=pathway")
FITTED = ("backbone", "likelihood", "objective", "training", "blocking", "callbacks", "logger")


def options(group: str) -> list[str]:
    folder = ROOT / "configs" / group
    return sorted(
        str(p.relative_to(folder).with_suffix(""))
        for p in folder.rglob("*.yaml")
        if not {"base", "text"} & {p.parent.name, p.stem}
    )


def fitted(cfg, tmp_path: Path):
    config = validated(cfg)
    task, source = build(config.task, "task"), build(config.data, "data")
    cells = source.load(Path(config.paths.cache))
    split = build(config.split, "split")(cells, source.roles, config.seed)
    data = select_genes(cells, split.train, source.n_top_genes, source.min_cells)
    method = build(config.method, "method")
    options = fit_options(cfg, config, task, method, source.roles, data[split.train], tmp_path / "run")
    method.fit(data, split, source.roles, config.seed, options)
    return method, data


@pytest.mark.parametrize("choice", [f"{g}={o}" for g in FITTED for o in options(g)])
def test_every_option_trains_and_generates(choice, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    more = ["logger.offline=true"] if choice == "logger=wandb" else []
    cells = ["data=pbmc68k"] if choice in KNOWING else CELLS  # simulated genes have no texts
    method, data = fitted(tiny(choice, *more, "trainer.limit_steps=1", cells=cells), tmp_path)
    cells = method.generate(data.obs[method.fitted.conditions.names][:7], seed=0)
    assert cells.shape == (7, data.n_vars)
    assert np.isfinite(cells.X.data).all()
    assert (cells.X.data >= 0).all()


@pytest.mark.parametrize("group", ["demo", "paper", "ablation", "small", "correction"])
def test_every_job_of_every_experiment_fits_the_schema(group):
    """Each point of each grid, not the file alone; the file's name is the one that it gives itself."""
    for job in expand(ROOT / "configs", experiments(ROOT / "configs", [group]), [0], []):
        validated(job.cfg)
        assert job.cfg.experiment_name == job.experiment


@pytest.mark.parametrize(
    "choice", [f"{g}={o}" for g in ("data", "split", "trainer", "debug", "task") for o in options(g)]
)
def test_options_compose_and_fit_the_schema(choice, composed):
    extra = {"data=h5ad": ["data.path=x.h5ad", "data.conditions=[a]"], "split=file": ["split.path=split.csv"]}
    extra |= {"split=leave_out": ["split.column=phase", "split.level=S"]}
    extra |= {"data=perturbseq_h5ad": ["data.path=x.h5ad", "data.perturbation_key=p", "data.control=c"]}
    validated(composed(choice, *extra.get(choice, [])))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["+backbone.widht=3"], "backbone.widht: unknown key; backbone takes: additive_prior, condition_width"),
        (["training.batch_size=many"], "training.batch_size='many': input should be a valid integer"),
        (
            ["data.conditions=batch"],
            "data.conditions='batch': input should be a valid list; write 'data.conditions=[batch]'",
        ),
        (
            ["data.batch_key=[batch]"],
            "data.batch_key=['batch']: input should be a valid string; write data.batch_key=batch",
        ),
        (["training.mask_rate=1.5"], "training.mask_rate=1.5: input should be less than or equal to 1"),
        (["seed=-1"], "seed=-1: input should be greater than or equal to 0"),
        (["mode=dance"], "mode='dance': input should be 'train', 'generate', 'predict', 'integrate' or 'evaluate'"),
        (["+colour=red"], "colour: unknown key; the config takes: analysis, backbone"),
        (["mode=generate"], "mode=generate needs a trained model: ckpt="),
        (["resume=a", "ckpt=b"], "resume and ckpt are both set"),
        (["backbone._target_=os.system"], "backbone._target_='os.system': not a class of the group backbone"),
        (["backbone._target_=scsave.models.backbone.Nothing"], "not a class of the group backbone"),
        (["+backbone.widht=3"], "did you mean backbone.width?"),
        (["sampling.solver.method=magic"], "sampling.solver.method='magic': input should be 'euler'"),
    ],
)
def test_a_wrong_config_ends_in_one_line(overrides, words, composed):
    with pytest.raises(UserError) as caught:
        validated(composed(*overrides))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["blocking.block_size=5000"], "48"),
        (["backbone.heads=5"], "backbone.width=16 is not a multiple of heads=5"),
        (["sampling.guidance=2", "training.mask_rate=0", "training.joint_mask_rate=0"], "training.mask_rate=0"),
    ],
)
def test_rules_across_keys(overrides, words, tiny, tmp_path):
    with pytest.raises(UserError, match=words):
        fitted(tiny(*overrides), tmp_path)


def test_guidance_takes_a_number_or_one_a_condition(tiny, tmp_path):
    method, data = fitted(tiny("sampling.guidance={cell_type: 1.5, batch: 0.5}"), tmp_path)
    obs = data.obs[method.fitted.conditions.names][:5]
    for weight in method.fitted.network.velocity.parameters():  # after two steps it says next to nothing
        torch.nn.init.normal_(weight, std=0.3)
    per_condition = method.generate(obs, seed=0)
    plain, again = (SAVE(method.fitted).sampling(guidance=1.0).generate(obs, seed=0) for _ in range(2))
    assert (plain.X != again.X).nnz == 0
    assert (plain.X != per_condition.X).nnz > 0
    assert torch.isfinite(torch.from_numpy(per_condition.X.data)).all()
