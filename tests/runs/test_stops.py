"""The way through the code is short: files that a batch and a score pass, by a call trace (docs/method.md lists them).

A stop is a file of src/scsave that hands on what is followed: a function there returns cells or tensors (until the first
loss), or something that holds the score (from the scorer's own return to the printed table).
"""

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from scsave.compose import compose
from scsave.runs.run import run

from ..conftest import ROOT

SOURCE = str(ROOT / "src" / "scsave")


def files_of(call: Callable[[], Any], followed: Callable[[Any], bool], first: str = "", last: str = "") -> list[str]:
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


def holds_cells(value: Any) -> bool:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    named = ("AnnData", "csr_matrix", "Tensor", "Posterior", "CellRows", "RawCells")
    return type(value).__name__ in named or any(map(holds_cells, inside))


def all_stops(folder: Path) -> dict[str, list[str]]:
    """Of a batch of the packaged cells, and of the W1 distance of a baseline on them."""
    given = [f"paths.outputs={folder}", f"paths.cache={folder}", "blocking=random", "figures=false", "force=true"]
    batch = files_of(lambda: run(compose(given), folder / "save"), holds_cells, last="losses")

    import make_tables

    def score() -> str:
        run(compose([*given, "method=mean"]), folder / "mean")
        found = json.loads(next((folder / "mean").rglob("results.json")).read_text())
        make_tables.run([str(folder), "--metrics", "w1"])
        return repr(found["metrics"]["mean"]["all"]["w1"])

    number, text = score(), lambda value: value.to_csv() if hasattr(value, "to_csv") else repr(value)
    return {"batch": batch, "score": files_of(score, lambda value: number in text(value), first="score")}


@pytest.fixture(scope="module")
def stops(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        found = all_stops(tmp_path_factory.mktemp("stops"))
        print(json.dumps(found, indent=1))
        return found


@pytest.mark.slow
def test_a_batch_passes_few_files_from_file_to_loss(stops):
    found = stops["batch"]
    assert {"training/stages.py", "models/networks.py"} <= set(found)
    assert found[0].startswith("data/")
    assert len(found) <= 12, found


@pytest.mark.slow
def test_a_score_passes_few_files_from_scorer_to_table_entry(stops):
    found = stops["score"]
    assert found[0].startswith("metrics/")
    assert found[-1].startswith("results/")
    assert len(found) <= 6, found
