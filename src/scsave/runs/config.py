"""The typed schema of the composed config: what may stand where, checked before anything is loaded.

Component groups (task, data, ...) are checked against the signature of their `_target_`; what is left is here.
"""

from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, Field, ValidationError

from scsave.components import STRICT, Node, check, explain, wrong_value
from scsave.errors import UserError


class _Strict(BaseModel):
    model_config = STRICT


class Sampling(_Strict):
    guidance: float | dict[str, float] = 1.0
    unseen: Literal["nearest", "told"]
    solver: Node


class Callbacks(_Strict):
    checkpoint_every: Annotated[int, Field(gt=0)] = 500
    extra: dict[str, Node] | None = None


class Paths(_Strict):
    outputs: str
    cache: str
    data: str = "data/local"


class RunConfig(_Strict):
    """`configs/train.yaml`, composed and resolved."""

    mode: Literal["train", "generate", "predict", "integrate", "evaluate"]
    seed: Annotated[int, Field(ge=0, lt=2**31)]  # numpy and scikit-learn take no larger one
    experiment_name: str | None = None
    sweep_metric: str | None = None
    ckpt: str | None
    resume: str | None
    n: Annotated[int, Field(gt=0)]
    condition: dict[str, Any] | None  # null, not {}: Hydra merges into a dict only keys that it has
    target: Any = None
    perturbations: str | list[str] | None = None
    route: str | None = None
    out: str | None = None
    force: bool = False
    figures: bool
    progress: bool = True
    task: Node
    data: Node
    split: Node
    vectors: Node
    blocking: Node
    backbone: Node
    likelihood: Node
    objective: Node
    sampling: Sampling
    training: Node
    method: Node
    trainer: Node
    logger: Node
    callbacks: Callbacks
    analysis: Node | None = None
    paths: Paths


def validated(cfg: DictConfig) -> RunConfig:
    """The config as plain, checked values. UserError names the first key that is wrong, and what it takes."""
    try:
        plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(f"config: {str(error).splitlines()[0]}") from None
    try:
        config = RunConfig.model_validate(plain)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][:-1] if not str(part).startswith("constrained"))
        raise UserError(explain_at(error, where)) from None
    for name in (name for name, key in RunConfig.model_fields.items() if key.annotation == Node):
        check(getattr(config, name), name)
    if config.analysis:
        check(config.analysis, "analysis")
    for name, node in (config.callbacks.extra or {}).items():
        check(node, f"callbacks.extra.{name}")
    check(config.sampling.solver, "sampling.solver")
    if config.resume and config.ckpt:
        raise UserError("resume and ckpt are both set; resume goes on with a run, ckpt uses a finished one: give one")
    if config.mode != "train" and not config.ckpt:
        raise UserError(f"mode={config.mode} needs a trained model: ckpt=<run directory>")
    if config.out and config.mode in ("train", "evaluate"):
        raise UserError(f"out={config.out} is for mode=generate, predict and integrate; runs go below paths.outputs")
    return config


def explain_at(error: ValidationError, where: str) -> str:
    first = error.errors()[0]
    if first["type"] == "missing":
        key = ".".join(map(str, first["loc"]))
        return f"{key}: missing; the config is not whole (a run folder's config.yaml has to be as the run wrote it)"
    if isinstance(first["input"], dict):  # a union says first that it is no number, then what is wrong inside
        same = [one for one in error.errors() if one["loc"][:2] == first["loc"][:2]]
        first = max(same, key=lambda one: len(one["loc"]))
    models = {"": RunConfig, "sampling": Sampling, "callbacks": Callbacks, "paths": Paths}
    if first["type"] == "extra_forbidden" and where in models:
        return explain(error, where, sorted(models[where].model_fields))
    unions = ("str", "int", "float", "bool")  # pydantic tells which member of a union it tried
    key = ".".join(str(part) for part in first["loc"] if part not in unions and "[" not in str(part))
    return wrong_value(key, first)
