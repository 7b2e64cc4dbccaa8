"""Every number of the pages comes from a record, and a page says by itself where that is of older sources."""

import json
import re
import shutil
from pathlib import Path

import pytest

from scsave.errors import UserError
from scsave.results import sources
from scsave.results.docs import BLOCK, Docs
from scsave.results.frame import read
from scsave.results.noise import ONE_SEED, between
from scsave.results.paper import paper_text, reported
from scsave.results.records import plain_command
from scsave.results.table_text import verdict
from scsave.results.tables import make_table

from .written import write

ROOT = Path(__file__).parents[2]
SPEC = """
seeds: [0, 1]
sets:
  toy: {title: Toy cells, choices: [B], file: toy.h5ad}
tables:
  main:
    title: What it gives
    metrics: [energy]
    groups: {two of them: [B, NK], the others: [T]}
    runs:
      - {task: generation, data: toy, method: save, command: python train.py data=toy}
      - {task: generation, data: toy, method: scvi, seeds: [0], command: python train.py data=toy method=scvi}
  later:
    title: What was not run
    metrics: [energy]
    runs: [{experiment: ablation/later, command: python train.py -m experiment=ablation/later}]
"""
PAGE = "# Page\n<!-- table: main -->\n<!-- end -->\nText.\n<!-- table: later -->\n<!-- end -->\n"
TYPES = {"B": 0.1, "NK": 0.2, "T": 0.4}


def scored(shift: float, groups: dict[str, float] = TYPES) -> dict[str, dict[str, float]]:
    return {name: {"energy": value + shift} for name, value in groups.items()}


@pytest.fixture
def checkout(tmp_path) -> Docs:
    """A checkout with a spec and a page, the sources of this one, and two finished runs in `runs`."""
    for folder in sources.PARTS:
        shutil.copytree(ROOT / "src" / "scsave" / folder, tmp_path / "src" / "scsave" / folder)
    (tmp_path / "docs" / "results").mkdir(parents=True)
    (tmp_path / "docs" / "results" / "tables.yaml").write_text(SPEC)
    (tmp_path / "docs" / "page.md").write_text(PAGE)
    (tmp_path / "README.md").write_text("# Toy\n")
    command = "python train.py data=h5ad data.path=/home/me/toy.h5ad paths.outputs=/tmp/x 'data.conditions=[cell_type]'"
    for seed in (0, 1):
        rows = {"save": {"energy": 0.25 + seed}, "real": {"energy": 0.2}, "mean": {"energy": 3.0}}
        groups = {"save": scored(0.02 + seed), "real": scored(0.0), "mean": scored(3.0)}
        found = {"config": {"data.path": "/home/me/toy.h5ad", "training.steps": 5}, "command": command}
        write(
            tmp_path / "runs" / str(seed),
            rows,
            groups=groups,
            seed=seed,
            data="h5ad",
            sources=sources.hashes(),
            **found,
        )
    docs = Docs(tmp_path)
    docs.record(read([tmp_path / "runs"]))
    docs.write()
    return docs


def again(docs: Docs) -> Docs:
    return Docs(docs.root)


def block(docs: Docs, name: str) -> str:
    return next(found[2] for found in BLOCK.findall((docs.root / "docs" / "page.md").read_text()) if found[1] == name)


# -- the documents of this checkout


def test_every_page_is_as_the_records_say():
    assert not Docs(ROOT).differences()


def test_records_name_no_folder_of_a_machine():
    for path in (ROOT / "docs" / "results").glob("*.json"):
        assert not re.search(r"(?<![\w.])/(work|home|tmp|root|Users)/", path.read_text(encoding="utf-8")), path


def test_handwritten_tables_of_results_are_gone():
    """A row of a table with two numbers that have decimals, outside of a block and of code, would be a result typed by hand."""
    for page in Docs(ROOT).pages:
        text = re.sub(r"```.*?```", "", BLOCK.sub("", page.read_text(encoding="utf-8")), flags=re.DOTALL)
        lines = [
            line
            for line in text.splitlines()
            if line.startswith("|") and len(re.findall(r"\| *\**-?\d*\.\d+", line)) > 1
        ]
        assert not lines, (page.name, lines)


# -- rendering


def test_a_table_has_its_numbers_verdict_marks_and_origin(checkout):
    text = block(checkout, "main")
    assert "two of them † energy" in text.replace("<br>", " ")
    assert "the others energy" in text.replace("<br>", " ")
    assert "0.67 ± 0.71 (2)" in text  # mean of 0.17 and 1.17: (0.12 + 0.22) / 2 and that with the next seed
    assert "python train.py data=h5ad data.path=toy.h5ad 'data.conditions=[cell_type]'" in text
    assert "/home/me" not in (checkout.folder / "main.json").read_text()
    assert "main.json](results/main.json)" in text
    assert "older sources" not in text
    assert "not run, scvi, seed 0: `python train.py data=toy method=scvi seed=0`" in text
    assert "choices of this project were made with these cells, or some of them, in view" in text


def test_what_was_not_run_says_its_command(checkout):
    assert "not run, seeds 0, 1: `python train.py -m experiment=ablation/later seed=0,1`" in block(checkout, "later")
    assert not re.search(r"\d\.\d", block(checkout, "later"))


def test_a_second_rendering_and_a_second_recording_change_nothing(checkout):
    before = {path: path.read_text() for path in [*checkout.pages, checkout.folder / "main.json"]}
    assert again(checkout).write() == []
    assert again(checkout).differences() == []
    again(checkout).record(read([checkout.root / "runs"]))
    assert {path: path.read_text() for path in before} == before


def test_a_number_changed_by_hand_is_named(checkout):
    page = checkout.root / "docs" / "page.md"
    page.write_text(page.read_text().replace("0.67 ± 0.71", "0.66 ± 0.71"))
    (line,) = again(checkout).differences()
    assert line.startswith("docs/page.md: table main is not what docs/results/main.json says")


def test_what_the_code_costs_is_shown_section_by_section(checkout):
    page = checkout.root / "docs" / "page.md"
    page.write_text(page.read_text() + "\n<!-- table: bench -->\n<!-- end -->\n")
    again(checkout).write()
    assert "**What it costs**: not run." in block(checkout, "bench")
    record = {
        "device": "cpu",
        "git_commit": "0123456789",
        "sources": again(checkout).sources,
        "versions": {"torch": "2"},
    }
    record |= {"step": {"flow": {"ratio": 1.61803, "met": True}}, "sampling": {"euler": {"cells a second": 2000.0}}}
    (checkout.folder / "bench.json").write_text(json.dumps(record))
    assert again(checkout).differences()
    again(checkout).write()
    assert again(checkout).differences() == []
    text = block(checkout, "bench")
    assert "| step | ratio | met |\n| --- | ---: | ---: |\n| flow | 1.618 | True |" in text
    assert "| euler | 2000 |" in text
    assert "commit 01234567; cpu" in text
    assert "older sources" not in text


def test_a_missing_record_is_named(checkout):
    (checkout.folder / "main.json").unlink()
    (line,) = again(checkout).differences()
    assert line.startswith("docs/page.md: table main shows numbers, and its record docs/results/main.json is missing")


def test_a_record_or_a_table_that_no_page_shows_is_named(checkout):
    (checkout.folder / "stray.json").write_text("{}")
    (checkout.root / "docs" / "page.md").write_text("# Page\n")
    assert [line.split(": ")[0] for line in again(checkout).differences()] == [
        "docs/results/tables.yaml", "docs/results/tables.yaml", "docs/results/stray.json",
    ]  # fmt: skip


def test_an_unknown_table_and_a_damaged_record_end_in_one_line(checkout):
    (checkout.root / "docs" / "page.md").write_text("<!-- table: other -->\n<!-- end -->\n")
    with pytest.raises(UserError, match=r"table other: docs/results/tables.yaml has no such table"):
        again(checkout).write()
    (checkout.root / "docs" / "page.md").write_text(PAGE)
    (checkout.folder / "main.json").write_text("{")
    with pytest.raises(UserError, match=r"main.json: can't be read as a record"):
        again(checkout).differences()


def test_a_record_holds_what_the_table_needs_once(checkout):
    content = json.loads((checkout.folder / "main.json").read_text())
    assert len(content["runs"]) == 2
    assert content["common"]["data"] == "toy"
    assert set(content["runs"][0]["metrics"]["save"]["all"]) == {"energy"}
    assert "config" not in content["runs"][0]
    assert "path" not in content["common"]["config"]["data"]


# -- older sources


def test_numbers_of_older_sources_say_so(checkout):
    path = checkout.root / "src" / "scsave" / "training" / "stages.py"
    text = path.read_text()
    path.write_text(f"# a comment\n{text}\n\n# and another")
    assert again(checkout).differences() == []
    path.write_text(text + "\nCHANGED = 1\n")
    assert again(checkout).differences()
    again(checkout).write()
    assert "**older sources**" in block(checkout, "main")
    assert "has changed since 2 of 2 runs" in block(checkout, "main")


def test_numbers_from_before_an_exact_change_are_not_of_older_sources(checkout):
    path, known = checkout.root / "src" / "scsave" / "training" / "stages.py", "\nexact:\n"
    for number in range(2):
        before = again(checkout).sources["training"]
        path.write_text(f"{path.read_text()}\nCHANGED = {number}\n")
        after = again(checkout).sources["training"]
        known += f"- {{part: training, before: {before}, after: {after}, compared: two results.json}}\n"
        (checkout.folder / "tables.yaml").write_text(SPEC + known)
        assert again(checkout).differences() == []
    (checkout.folder / "tables.yaml").write_text(
        SPEC + known.replace("compared:", "tasks: [batch_correction], compared:")
    )
    assert again(checkout).differences()  # the runs are of another task
    (checkout.folder / "tables.yaml").write_text(SPEC + known.replace("compared:", "tasks: [generation], compared:"))
    assert again(checkout).differences() == []
    path.write_text(path.read_text() + "\nCHANGED = 3\n")
    assert again(checkout).differences()


def test_a_run_with_newer_code_replaces_that_of_its_seed(checkout):
    found = {"sources": {"models": "new"}, "written": "2027", "config": {"training.steps": 6}}
    write(checkout.root / "runs" / "new", {"save": {"energy": 9.0}, "real": {"energy": 0.2}}, data="toy", **found)
    again(checkout).record(read([checkout.root / "runs"]))
    runs = again(checkout).recorded["main"]
    assert {run.seed: run.scores["neutral"]["save"]["all"]["energy"] for run in runs.itertuples()} == {0: 9.0, 1: 1.25}
    again(checkout).write()
    assert "has changed since 1 of 2 runs" in block(checkout, "main")


def test_a_recording_of_one_method_keeps_the_others_and_replaces_all_seeds_of_its_own(checkout):
    for name, method in (("one", "scvi"), ("two", "save")):
        rows = {method: {"energy": 9.0}, "real": {"energy": 0.2}}
        write(checkout.root / name / "0", rows, data="toy", method=method, written="2027")
        again(checkout).record(read([checkout.root / name]))
        runs = again(checkout).recorded["main"]
        seeds = {one: sorted(runs["seed"][runs["method"] == one]) for one in runs["method"].unique()}
        assert seeds == {"scvi": [0], "save": [0, 1] if method == "scvi" else [0]}


def test_a_recording_of_further_seeds_of_the_same_settings_and_code_keeps_the_others(checkout):
    shutil.copytree(checkout.root / "runs" / "1", checkout.root / "more")
    path = checkout.root / "more" / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": 2}))
    again(checkout).record(read([path.parent]))
    assert sorted(again(checkout).recorded["main"]["seed"]) == [0, 1, 2]


def test_comments_and_docstrings_do_not_count_and_code_does():
    plain = 'def f(a):\n    return f"# {a}"\n'
    told = '"""A file."""\n\n\ndef f(a):  # why\n    """What."""\n    # so\n    return f"# {a}"\n'
    assert sources.stripped(told) == sources.stripped(plain)
    assert sources.stripped(plain) != sources.stripped(plain.replace("# {a}", "## {a}"))


def test_a_baseline_is_not_older_where_the_networks_changed():
    now = sources.hashes()
    assert sources.needed(now | {"models": "x"}, False) == sources.needed(now, False)
    assert sources.needed(now | {"models": "x"}, True) != sources.needed(now, True)
    assert sources.hashes_at("0" * 40) is None


def test_a_command_keeps_what_a_number_depends_on():
    command = "python train.py data=h5ad data.path=/a/b.h5ad paths.cache=/c figures=false hydra/launcher=joblib seed=1 'a=[x, y]'"
    assert plain_command(command) == "python train.py data=h5ad data.path=b.h5ad seed=1 'a=[x, y]'"


# -- noise


def compared(folder: Path, one: list[dict[str, float]], other: list[dict[str, float]]):
    """The table of two methods whose groups have these energies, a dictionary a seed."""
    for method, seeds in (("save", one), ("scvi", other)):
        for seed, groups in enumerate(seeds):
            mean = sum(groups.values()) / len(groups)
            scores = {"metrics": {method: {"energy": mean}}, "groups": {method: scored(0, groups)}}
            write(folder / f"{method}{seed}", seed=seed, method=method, split_hash=f"{seed:064x}", **scores)
    return make_table(read([folder]), metrics=["energy"])


def test_groups_tell_a_steady_difference_from_a_chance_one(tmp_path):
    base = {name: float(10 * n) for n, name in enumerate("abcdef")}
    steady = compared(tmp_path / "a", [base], [{name: value + 1 for name, value in base.items()}])
    assert between(steady, 0, "save", "scvi") == (False, f"bootstrap over 6 groups {ONE_SEED}")
    swings = {name: value + (5 if n % 2 else -4) for n, (name, value) in enumerate(base.items())}
    chance = compared(tmp_path / "b", [base], [swings])
    assert between(chance, 0, "save", "scvi").within is True
    assert "within noise of it: scvi" in verdict(chance, 0)
    assert "no other method is within noise of it" in verdict(steady, 0)


def test_seeds_decide_where_there_are_few_groups(tmp_path):
    table = compared(tmp_path / "a", [{"a": 1.0}, {"a": 2.0}, {"a": 3.0}], [{"a": 1.5}, {"a": 2.51}, {"a": 3.49}])
    assert between(table, 0, "save", "scvi") == (False, "a paired t over 3 seeds")
    table = compared(tmp_path / "b", [{"a": 1.0}, {"a": 2.0}, {"a": 3.0}], [{"a": 3.0}, {"a": 1.9}, {"a": 3.2}])
    assert between(table, 0, "save", "scvi").within is True


def test_one_seed_without_groups_says_that_noise_is_not_known(tmp_path):
    table = compared(tmp_path, [{"a": 1.0}], [{"a": 2.0}])
    assert between(table, 0, "save", "scvi").within is None
    assert verdict(table, 0).endswith("noise is not known (one seed and no groups)")


# -- the paper's tables


def paper_line(runs: Path, **changes) -> str:
    """The line of W1 on PBMC 3k in table 1, with a run in the record or without."""
    write(runs, {"save": {"w1": 18.5}}, data="pbmc3k", **changes)
    spec = {"sets": {"pbmc3k": {"needs": ["patience"]}}}
    lines = paper_text(1, spec, {"mine": read([runs])}, "results").splitlines()
    return next(line for line in lines if line.startswith("| `pbmc3k` | w1 |"))


def test_the_papers_numbers_say_what_was_run(tmp_path):
    line = paper_line(tmp_path / "a", experiment_name="paper/pbmc3k")
    assert line == "| `pbmc3k` | w1 | 19.14 | CFGen 16.94 | run here: 18.5 ([mine](results/mine.json)) |"
    line = paper_line(tmp_path / "b")
    assert line.endswith("| run small: other settings than the paper's ([mine](results/mine.json)) |")
    line = paper_line(tmp_path / "c", task="batch_correction")
    assert line.endswith("| not run: needs a GPU at full width and patience |")


def test_every_number_of_the_paper_is_on_its_page():
    text = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    parts = {name: there for _, name, there, _ in BLOCK.findall(text)}
    assert set(parts) == {f"paper-{number}" for number in range(1, 8)}
    for one in reported():
        assert re.search(rf"(?<![\d.]){one.value:g}(?![\d.])", parts[f"paper-{one.table}"]), one
