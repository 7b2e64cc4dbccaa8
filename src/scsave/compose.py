"""The Hydra config composed from Python, so that no class repeats its defaults; and what `configs/data` holds."""

import re
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from scsave.errors import UserError


def config_folder() -> Path:
    """`configs/` of the checkout, or the copy that an installed package carries."""
    package = Path(__file__).resolve().parent
    places = [package.parents[1] / "configs", package / "configs"]
    return next((place for place in places if (place / "train.yaml").is_file()), places[-1])


def named_after(path: str | None, otherwise: str) -> str:
    """What a data set that is anyone's file is called, in folders and tables: as the file is, wherever it lies."""
    if not isinstance(path, str | None):
        raise UserError(f"data.path={path}: name one file, in double quotes where its name is a number")
    name = re.sub(r"[^\w+-]+", "_", Path(path or "").stem).strip("_")
    return name or otherwise


def compose(overrides: list[str]) -> DictConfig:
    """`configs/train.yaml` under `overrides`, as `python train.py <overrides>` has it. Hydra's own errors pass through."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    OmegaConf.register_new_resolver("named_after", named_after, replace=True)
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(config_dir=str(config_folder()), version_base="1.3"):
            return hydra_compose("train", overrides=overrides)
    finally:
        GlobalHydra.instance().hydra = before


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The config as plain types, resolved."""
    return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)


def data_with(*keys: str) -> list[str]:
    """Names of the data options that set every one of `keys`, sorted; empty where there are no configs."""
    paths = (config_folder() / "data").glob("*.yaml")
    return sorted(path.stem for path in paths if all(_settings(path).get(key) for key in keys))


def catalog(key: str) -> list[Any]:
    """What the data options of the package have under `key`."""
    found = (_settings(path).get(key) for path in sorted((config_folder() / "data").glob("*.yaml")))
    return [value for value in found if value is not None]


def _settings(path: Path) -> dict:
    """A data option with what it inherits from another option."""
    content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    parents = [entry for entry in content.get("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    inherited: dict = {}
    for parent in parents:
        inherited |= _settings(path.with_name(f"{parent}.yaml"))
    return inherited | content
