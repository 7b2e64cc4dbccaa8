"""What a run says: how its progress is shown, and at its end the table, the verdict and what was made."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from scsave import keys
from scsave.files import FOLDS, RESULTS, numbers, relative
from scsave.metrics.registry import rows
from scsave.progress import BARS, PLAIN, SILENT, terminal
from scsave.protocol import Scores
from scsave.results.frame import read
from scsave.results.table_text import in_short, title
from scsave.results.tables import make_table, scores_of
from scsave.runs.naming import in_sweep
from scsave.stats.expected import SHARE, TRUST, said


def progress_of(cfg: DictConfig) -> tuple[str, str]:
    """How this job shows its progress, and what its plain lines begin with: its number where others run beside it."""
    beside = in_sweep() and not str(HydraConfig.get().launcher["_target_"]).endswith(".BasicLauncher")
    said = f"job {HydraConfig.get().job.num}: " if beside else ""
    return SILENT if cfg.progress is False else PLAIN if beside or not terminal() else BARS, said


def print_scores(scores: Scores, task: str, title: str, group: str = "all") -> None:
    """One line a metric, one column a row of the results (method, noise floor, baselines)."""
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("metric")
    for name in scores:
        table.add_column(name, justify="right")
    table.add_column("best")
    for metric, row in rows(task).items():
        if any(metric in groups.get(group, {}) for groups in scores.values()):
            shown = [_shown(scores[name].get(group, {}).get(metric)) for name in scores]
            table.add_row(metric, *shown, row.arrow)
    if any("-" in column.cells for column in table.columns[1:-1]):
        table.caption = (
            "-: not computable: too few cells or perturbations, no training cell of the combination (split=unseen), or a "
            "column that it needs (a cell type) was not named"
        )
    _print(table)


def made(folder: Path) -> str:
    """What a run has left in the folder of its scores, where that is, and how its model, or that of its first fold, is named."""
    files = sorted(path.name for path in folder.iterdir() if path.is_file())
    for part in sorted(part for part in folder.iterdir() if part.is_dir()):
        count = len([path for path in part.rglob("*") if path.is_file()])
        files.append(f"{part.name}/ ({count} file{'s' * (count != 1)})")
    models = [path.parent for at in ("", f"{FOLDS}/*/") for path in sorted(folder.parents[1].glob(f"{at}checkpoints"))]
    use = [f"model: ckpt={relative(models[0])}" + f" (of {len(models)} folds)" * (len(models) > 1)] if models else []
    return "\n".join([f"made: {', '.join(files)}", f"where: {relative(folder)}", *use])


def print_results(results: Path) -> None:
    """A run's table, how far its predictions are to be trusted, and what its numbers come to in a sentence.

    No sentence for a task of one's own without rows to compare with.
    """
    runs = read([results])
    run = runs.iloc[0]
    print_scores(scores_of(run), run["registry"], f"{run['task']} on {run['data']}, seed {run['seed']}")
    print_trust(run["info"].get(TRUST, {}))
    if said := in_short(make_table(runs, group=[keys.ALL]), run["method"]):
        print(f"verdict: {said}")


def print_sweep(results: Sequence[Path]) -> None:
    """One table of several runs for each task: a row a method, over seeds where there are several."""
    from scsave.results.table_formats import DIFFERS, sheet

    for _, same in read(results).groupby("registry"):
        found = make_table(same, group=[keys.ALL])
        frame, _ = sheet(found, range(len(found.columns)))
        table = Table(title=f"all {len(same)} runs: {title(found)}", title_justify="left", header_style="bold")
        for top, name in frame.columns:
            table.add_column(f"{top}\n{name}".strip() or "method", justify="left" if name in ("", DIFFERS) else "right")
        for line in frame.to_numpy():
            table.add_row(*line)
        _print(table)


def _print(table: Table) -> None:
    """Where this is no terminal wide enough for every column, so that a log can be read."""
    console = Console(markup=False)
    if not console.is_terminal:
        console = Console(width=max(100, 24 + 16 * len(table.columns)), markup=False)
    console.print(table)


def _shown(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.4g}"


def print_trust(trust: dict[str, dict[str, float]], most: int = 5) -> None:
    """What accuracy was to be expected of each prediction and what it reached, and how often the interval held it.

    Of more than `most` predictions their medians, the three that reached least and the three that reached most.
    """
    trust = numbers(trust)  # of a fold that was read back, NaN is None
    known = {name: one for name, one in trust.items() if one["expected_pcc"] == one["expected_pcc"]}
    shown = list(known)
    if len(known) > most:
        expected, reached = (np.nanmedian([one[key] for one in known.values()]) for key in ("expected_pcc", "reached"))
        print(f"{len(known)} predictions: expected change-PCC {expected:.2f}, reached {reached:.2f} (medians); the three that "
              f"reached least and the three that reached most (all: info.{TRUST} of {RESULTS}):")  # fmt: skip
        shown = sorted(known, key=lambda name: np.nan_to_num(known[name]["reached"], nan=-1.0))
        shown = [*shown[:3], *shown[-3:]]
    for name in shown:
        print(f"{name}: {said(known[name])}, reached {known[name]['reached']:.2f}")
    if known:
        inside = sum(one["low"] <= one["reached"] <= one["high"] for one in known.values())
        print(f"the {SHARE:.0%} interval holds what was reached in {inside} of {len(known)} predictions")
    elif trust:
        one = next(iter(trust.values()))
        print(f"how far to trust the predictions: {said(one)}")
