"""Which cells the study of the protocols is made on, and keeping it: it takes a minute, the page a second."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from scsave.errors import UserError
from scsave.files import write_json
from scsave.results.collect import Result
from scsave.results.protocol_study import Say, Study, study_of_run, study_without_run

VERSION = 1  # raise it when the same cells give another study
TYPICAL = 5000  # cells; the study is about sets of a size that papers evaluate on


def study_run(results: list[Result]) -> Result | None:
    """The run whose cells are shown: SAVE's generation on the largest real data set of at most `TYPICAL` cells.

    None where there is none: simulated cells would show the geometry, and nothing about real data.
    """
    fit = [
        result
        for result in results
        if result.task == "generation"
        and result.method == "scsave"
        and not result.config["data"]["_target_"].startswith("scsave.data.simulate.cells")
        and (result.folder / "generated.h5ad").is_file()
    ]
    small = [result for result in fit if (result.cells or 0) <= TYPICAL]
    return max(small or fit, key=lambda r: (r.cells or 0, -r.seed, r.written, r.config_hash), default=None)


def kept_study(folder: Path, result: Result | None, config: dict[str, Any], seeds: list[int], say: Say) -> Study:
    """The study of `result`'s cells, or where that is None of a Gaussian on the data of `config`; from `folder` if there.

    UserError where the run lacks a file, or the data is not to be had.
    """
    told = [VERSION, seeds]
    told += [result.config_hash, result.written] if result else [config["data"], config["split"], config["task"]]
    key = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:10]
    path = folder / f"study-{key}.json"
    if path.is_file():
        try:
            return Study.of(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError):
            say(f"{path} is damaged: made anew")
    if result:
        content = {"config": result.config | {"paths": config["paths"]}, "method": result.method}
        study = study_of_run(result.folder, content, seeds, say)
    else:
        study = study_without_run(config, seeds, say)
    write_json(path, study.plain())
    return study


def no_study(error: UserError) -> str:
    return f"Not computed: {error}."
