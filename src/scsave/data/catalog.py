"""Data sets of `configs/data` that have a column which a task needs, for the line that refuses one that lacks it."""

from pathlib import Path

import yaml

from scsave.compose import config_folder


def data_with(*keys: str) -> list[str]:
    """Names of the data options that set every one of `keys`, sorted; empty where there are no configs."""
    paths = (config_folder() / "data").glob("*.yaml")
    return sorted(path.stem for path in paths if all(_settings(path).get(key) for key in keys))


def _settings(path: Path) -> dict:
    """A data option with what it inherits from another option."""
    content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    parents = [entry for entry in content.get("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    inherited: dict = {}
    for parent in parents:
        inherited |= _settings(path.with_name(f"{parent}.yaml"))
    return inherited | content
