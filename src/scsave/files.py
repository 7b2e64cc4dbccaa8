"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scsave.errors import UserError

if TYPE_CHECKING:
    from anndata import AnnData

RESULTS, FOLDS = "results.json", "folds"  # names below a folder of scores
_NO_ROOM = 2**16  # bytes: a disk with less had no room for a write that failed
_UNWRITABLE = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR,
    errno.EEXIST, errno.ENAMETOOLONG, errno.EIO,
)  # fmt: skip


def slug(name: str) -> str:
    """A file name for anything: at most 80 letters, digits, `+`, `-`, `_`; other names get a hash, so that none collide."""
    plain = re.sub(r"[^\w+-]+", "_", name)[:80]
    return plain if plain == name != "" else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:4]}"


def file_name(key: str, name: Any) -> str:
    """`name`, which files and folders are called by; UserError where they would lie in another folder than they should."""
    if not isinstance(name, str) or not name.strip() or name[0] == "." or set(name) & set("/\\\0\n"):
        raise UserError(f"{key}={name!r}: files are called by it; give a name without / and \\, not beginning with .")
    return name


def whole_folder(folder: Path) -> Path:
    """The folder of a whole run (or of its scores), of which `folder` may be a fold's."""
    return folder.parent.parent if folder.parent.name == FOLDS else folder


def partial_of(path: Path) -> Path:
    """What this process writes before it is called `path`."""
    return path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to. It becomes `path` where the body ends well, and is removed otherwise.

    What was at `path` is whole until then. UserError where the file can't be written: no room, no right to, a file where
    its folder should be.
    """
    partial = partial_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except BaseException as error:
        why = unwritable(error, path.parent)  # before room is made
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        if why:
            kept = "what was there before is as it was; make room, or give another folder"
            raise UserError(f"{path}: cannot be written ({why}); {kept}") from error
        raise


def unwritable(error: BaseException, folder: Path | None = None) -> str | None:
    """Why nothing could be written, in the system's words; None for an error of another kind.

    torch and HDF5 say no more of a full disk than that a write has failed, so the room that `folder` has is looked at too.
    """
    for one in (error, error.__cause__, error.__context__):
        if isinstance(one, OSError) and one.errno in _UNWRITABLE:
            return os.strerror(one.errno)
    if isinstance(error, OSError | RuntimeError) and folder is not None and folder.is_dir():
        status = os.statvfs(folder)
        if status.f_bavail * status.f_frsize < _NO_ROOM:
            return os.strerror(errno.ENOSPC)
    return None


def sweep(folder: Path) -> None:
    """Remove what processes that are no more left half written below a run's folder."""
    import psutil

    for left in folder.rglob(".*.partial*"):
        pid = left.name.partition(".partial")[0].rpartition(".")[2]
        if not (pid.isdigit() and psutil.pid_exists(int(pid))):
            left.unlink(missing_ok=True)


def relative(path: Path | str) -> Path:
    """The path as it is typed here: relative where it is below the working directory."""
    here = Path.cwd()
    return Path(path).absolute().relative_to(here) if Path(path).absolute().is_relative_to(here) else Path(path)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Unrounded numbers; NaN and infinity become null, which is all that JSON has for them."""
    write_text(path, json.dumps(_plain(content), indent=1, sort_keys=True, allow_nan=False) + "\n")


def write_h5ad(path: Path, data: AnnData) -> None:
    with replacing(path) as partial:
        data.write_h5ad(partial, compression="gzip")


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    with replacing(path) as partial:
        np.savez_compressed(partial, **arrays)


def read_json(path: Path) -> dict[str, Any]:
    """What a JSON file holds; nothing where there is none, or half of one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


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
