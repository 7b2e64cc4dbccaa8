"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from anndata import AnnData

RESULTS, FOLDS = "results.json", "folds"  # names below a folder of scores


def slug(name: str) -> str:
    """A file name for anything: letters, digits, `+`, `-` and `_`; other names get a hash, so that none collide."""
    plain = re.sub(r"[^\w+-]+", "_", name)
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:4]}"


def whole_folder(folder: Path) -> Path:
    """The folder of a whole run (or of its scores), of which `folder` may be a fold's."""
    return folder.parent.parent if folder.parent.name == FOLDS else folder


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path`, of the same ending, which becomes `path` where the body ends well and is removed otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Unrounded numbers; NaN and infinity become null, which is all that JSON has for them."""
    write_text(path, json.dumps(_plain(content), indent=1, sort_keys=True, allow_nan=False) + "\n")


def write_h5ad(path: Path, data: AnnData) -> None:
    with replacing(path) as beside:
        data.write_h5ad(beside, compression="gzip")


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    with replacing(path) as beside:
        np.savez_compressed(beside, **arrays)


def read_json(path: Path) -> dict[str, Any]:
    """What a JSON file holds; nothing where there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def numbers(node: Any) -> Any:
    """Scores read back: null is how NaN was written."""
    if isinstance(node, dict):
        return {key: numbers(value) for key, value in node.items()}
    return float("nan") if node is None else node


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value
