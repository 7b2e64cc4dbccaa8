"""A hash of the sources that can change the numbers of a run: by it a page says where its numbers are of older code."""

import ast
import hashlib
import io
import subprocess
import tarfile
import tokenize
from collections.abc import Mapping
from pathlib import Path

import scsave

# Folders of the package. What scores a run is not among them: metrics have versions of their own, a split has its hash.
PARTS = ("baselines", "blocking", "flow", "method", "models", "training")
PACKAGE = Path(scsave.__file__).parent


def hashes(package: Path = PACKAGE) -> dict[str, str]:
    """Folder -> hash (12 hex digits) of its Python files: names and code, without comments, docstrings and blank lines."""
    files = {path.relative_to(package).as_posix(): path for part in PARTS for path in (package / part).rglob("*.py")}
    return _hashes({name: path.read_text(encoding="utf-8") for name, path in files.items()})


def hashes_at(commit: str, package: Path = PACKAGE) -> dict[str, str] | None:
    """The same of a commit; None where git does not know it, or where it is marked as changed (`+`)."""
    command = ["git", "archive", "--format=tar", commit, *PARTS]
    try:
        done = subprocess.run(command, cwd=package, capture_output=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        members = [one for one in archive.getmembers() if one.name.endswith(".py")]
        return _hashes({one.name: archive.extractfile(one).read().decode("utf-8") for one in members})


def needed(found: Mapping[str, str], trained: bool) -> dict[str, str]:
    """Those of `found` that can change a run: all where it trained SAVE's networks, else the baselines' alone."""
    return {part: found[part] for part in (PARTS if trained else ("baselines",)) if part in found}


def _hashes(texts: Mapping[str, str]) -> dict[str, str]:
    found = {part: hashlib.sha256() for part in PARTS}
    for name in sorted(texts):
        found[name.split("/")[0]].update(f"{name}\n{stripped(texts[name])}".encode())
    return {part: one.hexdigest()[:12] for part, one in found.items()}


def stripped(text: str) -> str:
    """Python source without comments, docstrings and blank lines.

    Cut out of the text by position, since what `ast` and `tokenize` write is not the same in every version of Python.
    """
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
                lines[first.lineno - 1 : first.end_lineno] = [""] * (first.end_lineno - first.lineno + 1)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            lines[token.start[0] - 1] = lines[token.start[0] - 1][: token.start[1]]
    return "\n".join(line.rstrip() for line in lines if line.strip())
