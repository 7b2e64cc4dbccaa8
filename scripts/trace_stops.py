"""Print the files that a batch passes from its file to the loss, and a score from its scorer to an entry of a table.

A stop is a file of src/scsave that a call trace enters and that hands on what is followed: a function there returns cells
or tensors (until the first loss), or something that holds the score (from the scorer's own return to the printed table).
"""

import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import make_tables
from scsave.compose import compose
from scsave.runs.run import run

SOURCE = str(Path(__file__).resolve().parents[1] / "src" / "scsave")


def stops(call: Callable[[], Any], followed: Callable[[Any], bool], first: str = "", last: str = "") -> list[str]:
    """Files, in order of their first return of what is `followed`, from a function named `first` to one named `last`."""
    found: dict[str, None] = {}

    def profile(frame: Any, event: str, value: Any) -> None:
        if event == "return" and frame.f_code.co_filename.startswith(SOURCE) and followed(value):
            if frame.f_code.co_name == first:
                found.clear()  # what was before led to the scorer
            found.setdefault(str(Path(frame.f_code.co_filename).relative_to(SOURCE)))
            if frame.f_code.co_name == last:
                raise GeneratorExit  # the first loss: nothing on the way catches this

    with suppress(GeneratorExit):
        sys.setprofile(profile)
        call()
    sys.setprofile(None)
    return list(found)


def cells(value: Any) -> bool:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    named = ("AnnData", "csr_matrix", "Tensor", "Posterior", "CellRows", "RawCells")
    return type(value).__name__ in named or any(map(cells, inside))


def all_stops(folder: Path) -> dict[str, list[str]]:
    """Of a batch of the packaged cells, and of the W1 distance of a baseline on them."""
    given = [f"paths.outputs={folder}", f"paths.cache={folder}", "blocking=random", "figures=false", "force=true"]
    batch = stops(lambda: run(compose(given), folder / "save"), cells, last="losses")

    def score() -> str:
        run(compose([*given, "method=mean"]), folder / "mean")
        found = json.loads(next((folder / "mean").rglob("results.json")).read_text())
        make_tables.run([str(folder), "--metrics", "w1"])
        return repr(found["metrics"]["mean"]["all"]["w1"])

    number, text = score(), lambda value: value.to_csv() if hasattr(value, "to_csv") else repr(value)
    return {"batch": batch, "score": stops(score, lambda value: number in text(value), first="score")}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as where:
        print(json.dumps(all_stops(Path(where)), indent=1))
