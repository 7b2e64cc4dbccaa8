"""Gene knowledge that ships with the project: where its files lie, and reading and writing them without pickles."""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from scsave.errors import UserError

FOLDER = "gene_vectors"
VECTORS, NAMES, SETS = "human_minilm_go.npz", "human_names.tsv.gz", "human_go_sets.npz"


@cache
def packaged_file(name: str) -> Path:
    """Path of a packaged file: `<package>/gene_vectors` of a wheel, or `data/gene_vectors` of the checkout."""
    package = Path(__file__).resolve().parents[1]
    places = [package / FOLDER, package.parents[1] / "data" / FOLDER]
    for place in places:
        if (place / name).is_file():
            return place / name
    raise UserError(
        f"{name}, which ships with the project, is in none of {', '.join(map(str, places))}; "
        "fetch it again with `git checkout data/gene_vectors`, or make it with scripts/build_gene_vectors.py"
    )


def text_array(words: list[str]) -> np.ndarray:
    """Words as bytes of one text, one a line: small, and read back without unpickling."""
    return np.frombuffer("\n".join(words).encode(), dtype=np.uint8)


def words_of(array: np.ndarray) -> list[str]:
    """Inverse of `text_array`."""
    text = array.tobytes().decode()
    return text.split("\n") if text else []


def info_array(info: dict[str, Any]) -> np.ndarray:
    """Plain values as an array."""
    return text_array([json.dumps(info)])


def read_text(path: Path, what: str) -> str:
    """Text of a file that may be gzipped; UserError, beginning with `what`, where it can't be had."""
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"{what}: cannot be read ({error})") from None


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz, none of them a pickle; UserError where it is something else."""
    try:
        with np.load(path, allow_pickle=False) as values:
            return {name: values[name] for name in values.files}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:
        raise UserError(f"{path}: not an .npz of plain arrays ({type(error).__name__}: {error})") from None
