"""One file that holds all that generation needs, in plain types: `torch.load(weights_only=True)` reads it.

Format 4: format, method, version, nodes (config nodes of backbone, likelihood, objective, sampling, vectors), blocks,
conditions, decoder_conditions, state (weights, with the velocity's average already in place), axes (of corrected
expression), space (of gene vectors) and control cells where perturbations are sets of genes, closed (what the closed form
of route `combined` learned), info.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scsave.errors import UserError
from scsave.files import replacing, write_text

FORMAT = 4
FILE = "model.ckpt"


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Beside and renamed, with its sha256 next to it."""
    with summed(path) as partial:
        torch.save({"format": FORMAT} | content, partial)


@contextmanager
def summed(path: Path) -> Iterator[Path]:
    """As `scsave.files.replacing`, with the file's sha256 kept beside it; until the new sum stands there is none."""
    with replacing(path) as partial:
        yield partial
        digest = hashlib.sha256(partial.read_bytes()).hexdigest()
        path.with_suffix(".sha256").unlink(missing_ok=True)
    write_text(path.with_suffix(".sha256"), f"{digest}  {path.name}\n")


def read_summed(path: Path, otherwise: str) -> dict[str, Any]:
    """What `torch.save` wrote to a file, plain types and tensors only.

    UserError, ending in what to do `otherwise`, where its sum is another or it can't be read.
    """
    recorded = path.with_suffix(".sha256")
    if recorded.exists():
        known = recorded.read_bytes().decode(errors="replace").split()
        if hashlib.sha256(path.read_bytes()).hexdigest() != (known or [""])[0]:
            raise UserError(f"{path}: its sha256 is not the one in {recorded.name}; the file is damaged: {otherwise}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{path}: not a checkpoint that can be read ({type(error).__name__}): {otherwise}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a checkpoint, but a {type(content).__name__}: {otherwise}")
    return content


def check_state(path: Path, state: Any, wanted: Mapping[str, Tensor], otherwise: str) -> None:
    """UserError unless `state` has the weights `wanted`, by name and shape."""
    found = (
        {name: tuple(getattr(value, "shape", ())) for name, value in state.items()}
        if isinstance(state, Mapping)
        else {}
    )
    for name, value in wanted.items():
        if found.get(name) != tuple(value.shape):
            has = found.get(name, "none")
            raise UserError(
                f"{path}: not the weights of this model ({name} is {has}, not {tuple(value.shape)}): {otherwise}"
            )


def find_checkpoint(where: str | Path) -> Path:
    """The file behind a run directory or a path. UserError if there is none."""
    where = Path(where)
    for path in (where, where / FILE, where / "checkpoints" / FILE):
        if path.is_file():
            return path
    if not where.exists():
        raise UserError(f"ckpt={where}: no such file or folder; give the folder that a run wrote (outputs/...)")
    folds = sorted(path.parent.parent for path in where.glob("folds/*/checkpoints/" + FILE))
    if folds:
        raise UserError(f"ckpt={where}: this run has a model for each of {len(folds)} folds; name one: ckpt={folds[0]}")
    stages = sorted(path.name for path in where.glob("checkpoints/*.ckpt"))
    found = f"only unfinished stages ({', '.join(stages)}): go on with resume={where}" if stages else "none"
    raise UserError(f"ckpt={where}: expected a trained model at checkpoints/{FILE}; found {found}")


def read_checkpoint(where: str | Path, method: str) -> dict[str, Any]:
    """Content of a checkpoint of `method`. UserError if it is missing, damaged, another method's or of another format."""
    path = find_checkpoint(where)
    content = read_summed(path, "train again")
    if content.get("format") != FORMAT:
        found = content.get("format") or "?"
        raise UserError(f"{path}: format {found}, this version of scsave reads format {FORMAT}: train again")
    if content.get("method") != method:
        raise UserError(f"{path}: a checkpoint of method={content.get('method')}, not of method={method}")
    return content
