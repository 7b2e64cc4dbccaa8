"""One file that holds all that generation needs, in plain types: `torch.load(weights_only=True)` reads it.

Format 3: format, method, version, nodes (config nodes of backbone, likelihood, objective, sampling, vectors), blocks,
conditions, decoder_conditions, state (weights, with the velocity's average already in place), axes (of corrected
expression), space (of gene vectors) and control cells where perturbations are sets of genes, info.
"""

import hashlib
from pathlib import Path
from typing import Any

import torch

from scsave.errors import UserError
from scsave.files import replacing

FORMAT = 3
FILE = "model.ckpt"


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """With its sha256 next to it."""
    with replacing(path) as beside:
        torch.save({"format": FORMAT} | content, beside)
        digest = hashlib.sha256(beside.read_bytes()).hexdigest()
    path.with_suffix(".sha256").write_text(f"{digest}  {path.name}\n")


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
    recorded = path.with_suffix(".sha256")
    if recorded.exists() and hashlib.sha256(path.read_bytes()).hexdigest() != recorded.read_text().split()[0]:
        raise UserError(f"{path}: its sha256 is not the one in {recorded.name}; the file is damaged, train again")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{path}: not a checkpoint that can be read ({type(error).__name__})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else None
        raise UserError(f"{path}: format {found or '?'}, this version of scsave reads format {FORMAT}: train again")
    if content.get("method") != method:
        raise UserError(f"{path}: a checkpoint of method={content.get('method')}, not of method={method}")
    return content
