"""Tables of results.json files: Markdown, LaTeX (booktabs), CSV, and a listing that traces every value to its run.

python scripts/make_tables.py outputs [--task generation] [--data heart,pbmc] [--experiment 'paper/*'] [--out outputs/tables]
Reads only results.json (and the state of reproductions, for what did not run). Protocols, splits, metric versions and data
settings are never mixed in a column (docs/tables.md).
"""

import argparse
import sys
from pathlib import Path

from scsave.errors import UserError
from scsave.files import write_text
from scsave.results.collect import Result, collect
from scsave.results.not_run import NotRun, not_run
from scsave.results.table_formats import FORMATS, markdown, markdown_not_run, write_table
from scsave.results.tables import make_table, plan, registries, table_name
from scsave.runs.main import entry


def words(text: str) -> list[str]:
    """`a,b` as a list."""
    return [word for word in text.split(",") if word]


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument(
        "folders", nargs="*", type=Path, default=[Path("outputs")], help="folders with runs (default: outputs)"
    )
    found.add_argument("--task", type=words, help="tasks (generation, batch_correction, perturbation)")
    found.add_argument("--data", type=words, help="data sets; * and ? are wildcards here and below")
    found.add_argument("--method", type=words, help="methods: scsave, or baselines; reference rows come along")
    found.add_argument("--experiment", type=words, help="experiment_name of the runs; all that fit are one table")
    found.add_argument("--seed", type=words, help="seeds, 0,1,2")
    found.add_argument("--together", action="store_true", help="one table a task, whatever the experiments")
    found.add_argument("--metrics", type=words, help="names of metric registry rows, in order, or all")
    found.add_argument("--protocol", help="neutral (default), cfgen or cfgen_legacy: one for the whole table")
    found.add_argument("--group", type=words, help="groups of results.json: all (default), pooled, a type, a pattern")
    found.add_argument("--cost", action="store_true", help="minutes, seconds, parameters, memory of each run beside")
    found.add_argument("--strict", action="store_true", help="refuse where runs of one data set need two columns")
    found.add_argument("--format", type=words, default=list(FORMATS), help=f"of {','.join(FORMATS)} (default: all)")
    found.add_argument("--name", help="file name without ending, for a single table")
    found.add_argument("--out", type=Path, help="folder for the files; without it, Markdown is printed")
    return found


def run(arguments: list[str]) -> None:
    options = parser().parse_args(arguments)
    if lost := [name for name in options.format if name not in FORMATS]:
        raise UserError(f"--format {','.join(lost)}: unknown; there are: {', '.join(FORMATS)}")
    if options.seed and not all(seed.isdigit() for seed in options.seed):
        raise UserError(f"--seed {','.join(options.seed)}: seeds are whole numbers, 0,1,2")
    chosen = {"task": options.task, "data": options.data, "method": options.method, "experiment": options.experiment}
    results = collect(options.folders, **chosen, seed=[int(seed) for seed in options.seed] if options.seed else None)
    gaps = [one for one in not_run(options.folders) if wanted(one, chosen)]
    if not results and not gaps:
        raise UserError(
            f"{', '.join(map(str, options.folders))}: no {'fitting ' * any(chosen.values())}results.json there; run "
            "python train.py first"
        )
    tables = registries(results) if options.together or options.experiment else plan(results)
    if options.name and len(tables) > 1:
        raise UserError(
            f"--name {options.name}: there are {len(tables)} tables ({', '.join(tables)}); choose one of them"
        )
    written: list[Path] = []
    placed: set[NotRun] = set()
    for name, group in tables.items():
        table = make_table(
            group,
            metrics=options.metrics,
            protocol=options.protocol,
            group=options.group,
            costs=options.cost,
            strict=options.strict,
        )
        missing = [one for one in gaps if belongs(one, name, group)]
        placed |= set(missing)
        name = options.name or (f"{name}_{options.protocol}" if options.protocol else name)
        if options.out is None:
            print(markdown(table, missing, f"{name}.sources.csv, with --out"))
        else:
            written += write_table(options.out, name, table, missing, options.format)
    if options.out is None:
        print(markdown_not_run([one for one in gaps if one not in placed]))
    elif gaps:
        written.append(options.out / "not_run.md")
        write_text(written[-1], "### Not run\n" + markdown_not_run(gaps))
    for path in written:
        print(path)


def wanted(one: NotRun, chosen: dict) -> bool:
    from fnmatch import fnmatchcase

    return all(
        patterns is None or any(fnmatchcase(getattr(one, key), pattern) for pattern in patterns)
        for key, patterns in chosen.items()
    )


def belongs(one: NotRun, name: str, group: list[Result]) -> bool:
    """Whether a gap is one of the table's: its task, and its experiment or the folder of experiments."""
    first, folder = group[0], one.experiment.rpartition("/")[0]
    if one.task != first.task:
        return False
    if name == first.registry:  # a table across experiments: of those that it has
        return folder in {(result.experiment_name or "").rpartition("/")[0] for result in group}
    return name in (table_name(one.experiment, first.registry), table_name(folder, first.registry))


if __name__ == "__main__":
    entry(lambda: run(sys.argv[1:]))
