"""The report's page: valid and self-contained HTML, every number led back to its run, everything escaped."""

import re
import runpy
import subprocess
import sys
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from scsave.errors import UserError
from scsave.results.frame import read
from scsave.results.plans import read_jobs
from scsave.results.report import Content, duration, number, page, prose

from ..conftest import ROOT, clean_environment
from .report_page import NASTY, Page, content
from .written import write

SECTIONS = {"summary", "reading", "numbers", "pictures", "costs", "not-run", "machines", "runs"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return content(folder), page(content(folder / "again"))


@pytest.fixture(scope="module")
def parsed(made) -> Page:
    return Page(made[1])


def test_ids_are_unique_and_every_link_leads_somewhere(parsed):
    assert len(parsed.ids) == len(set(parsed.ids))
    assert set(parsed.ids) >= SECTIONS
    targets = [attrs["href"] for attrs in parsed.all("a")]
    assert len(targets) > 20
    assert [t for t in targets if not t.startswith("#") or t[1:] not in parsed.ids] == []


def test_nothing_is_fetched_and_the_script_is_in_the_page(parsed, made):
    sources = [attrs["src"] for _, attrs in parsed.tags if "src" in attrs]
    assert len(sources) == 6
    assert all(source.startswith("data:image/webp;base64,") for source in sources)
    assert parsed.all("script") == [{}]
    assert not parsed.all("link")
    style = made[1].partition("<style>")[2].partition("</style>")[0]
    assert not re.search(r"url\(|@import|http", style)
    assert not [name for _, attrs in parsed.tags for name in attrs if name.startswith("on")]


def test_readable_by_ear(parsed):
    assert parsed.all("html")[0]["lang"] == "en"
    assert all(len(attrs.get("alt") or "") > 20 for attrs in parsed.all("img"))
    levels = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(attrs.get("scope") in ("row", "col") for attrs in parsed.all("th"))
    assert len(parsed.all("caption")) == len(parsed.all("table"))
    inside = [parents for (tag, _), parents in zip(parsed.tags, parsed.parents, strict=True) if tag == "table"]
    assert all(parents[-1] == "div" for parents in inside)  # the box that scrolls


def test_text_from_results_is_escaped(parsed, made):
    text = "".join(parsed.text)
    assert f"note={NASTY}" in text.replace("'\"'\"'", "'") or NASTY in text
    assert made[1].count("<script") == 1
    assert "cpu <x86>" in text


def result(text: str) -> str:
    """The HTML of the one table of results."""
    (found,) = re.findall(r'<div class="result" id="table-generation-toy-all">(.*?)</table>', text, re.DOTALL)
    return found


def test_each_row_leads_to_its_runs_their_file_and_command(made):
    report, text = made
    lines = result(text).split("<tr")[2:]
    assert [re.search(r'scope="row">(\w+)', line)[1] for line in lines] == ["save", "pca_gaussian", "mean", "real"]
    for line, seeds in zip(lines, (2, 1, 2, 2), strict=True):
        targets = re.findall(r'href="#(run-[0-9a-f]{10})"', line)
        assert len(targets) == seeds
        for target in targets:
            origin = text.partition(f'<dl id="{target}">')[2].partition("</dl>")[0]
            assert "results.json" in origin
            assert "python train.py data=toy" in origin
    assert len(report.runs) == 3
    assert text.count('<dl id="run-') == 3


def test_floors_stand_in_the_table_of_the_methods_and_no_skill_rows_are_not_bold(made):
    lines = result(made[1]).split("<tr")[2:]
    assert [line.startswith(' class="aside"') for line in lines] == [False, False, True, True]
    assert "real (noise floor)" in lines[3]
    assert "<b>" in lines[0]  # the best C2ST; the best W1 is that of the row without skill, so nothing is bold there
    assert "<b>" not in lines[1] + lines[2] + lines[3]
    assert "within noise of no skill, mean (0.90)" in made[1]


def test_rows_are_named_by_what_differs(tmp_path):
    report = content(tmp_path)
    for name, size in (("a", 600), ("b", 1600)):
        many = {f"training.x{n}": size for n in range(4)} | {"blocking.block_size": size}
        write(tmp_path / "outputs" / name, {"save": {"w1": 4.0}}, seed=0, split_hash="0" * 64, config=many)
    report.runs = read([tmp_path / "outputs"], damaged=[])
    text = page(report)
    assert "([" not in text
    for size in (600, 1600):
        settings = ", ".join([f"block_size={size}", *(f"x{n}={size}" for n in range(4))])
        assert f'<td class="setting">{settings}</td>' in text


def test_numbers_are_those_of_the_files_with_mean_sd_and_seeds(parsed):
    text = "".join(parsed.text)
    assert re.search(r"2\.50 ± 0\.71 \(2\)", text)  # 2.0 and 3.0
    assert "4.25" in text


def test_what_did_not_run_is_said_with_its_reason(parsed, made):
    text = "".join(parsed.text)
    assert "3 runs planned: " in text
    for words in ("1 failed", "1 missing", "not run: dataset missing", "1 min 35 s", "broken/results.json"):
        assert words in text
    assert "2 of them have no result" in text
    assert re.search(r'href="#run-[0-9a-f]{10}">done</a>', made[1])  # the planned run that has a result leads to it


def test_pictures_are_chosen_and_shrunk(parsed):
    wide = [attrs for attrs in parsed.all("img") if (attrs.get("width") or "").isdigit()]
    assert max(int(attrs["width"]) for attrs in wide) == 1400
    text = "".join(parsed.text)
    assert "1 more in" in text
    assert "block size generation toy: quality and training time against the size of a block" in text
    assert "cells toy_pca_gaussian" in text
    assert "umap: UMAPs of the cells" in text
    assert "type A means" not in text  # the fifth of a run is not shown


def test_without_any_run_the_page_says_so(tmp_path):
    empty = content(tmp_path)
    empty.runs, empty.jobs = read([]), read_jobs([])
    empty.damaged, empty.figures = [], []
    text = "".join(Page(page(empty)).text)
    assert "0 runs are done." in text
    assert "No plan of a reproduction was found" in text


def luminance(color: str) -> float:
    parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_contrast_of_every_text_in_light_and_dark():
    style = (ROOT / "src/scsave/results/report.html.j2").read_text()
    themes = [dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root \{([^}]*)\}", style)]
    assert len(themes) == 3  # light, dark, print
    for theme in themes:
        for text in ("ink", "quiet", "accent"):
            for ground in ("ground", "card"):
                light, dark = sorted((luminance(theme[text]), luminance(theme[ground])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground, theme)


def test_prose_and_numbers():
    assert prose("a `b<c` d") == "a <code>b&lt;c</code> d"
    assert [number(x) for x in (1234, 1234.5, 0.12345, None, float("nan"))] == ["1,234", "1,234", "0.123", "–", "–"]
    assert [duration(x) for x in (95.0, 3700.0, 0.2, None)] == ["1 min 35 s", "1 h 1 min", "0.2 s", "–"]


def test_a_damaged_state_is_named(tmp_path):
    path = tmp_path / "reproduce" / "small" / "state.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"jobs": [{"seed": 0}]}')
    with pytest.raises(UserError, match=r"state\.json: can't be read as the state of a reproduction"):
        read_jobs([tmp_path])
    lines = []
    assert read_jobs([tmp_path], lines).empty
    assert len(lines) == 1


def test_the_script_writes_the_page(tmp_path, monkeypatch, capsys):
    write(tmp_path / "outputs" / "run")
    monkeypatch.setattr(sys, "argv", ["make_report.py", str(tmp_path / "outputs")])
    runpy.run_path(str(ROOT / "scripts" / "make_report.py"), run_name="__main__")
    assert "1 runs, 0 files that can't be read" in capsys.readouterr().out
    assert "1 runs are done" in (tmp_path / "outputs" / "report.html").read_text()


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    command = [sys.executable, "scripts/make_report.py", str(tmp_path / "nowhere")]
    done = subprocess.run(command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


def test_an_interval_stands_below_its_value_and_a_verdict_does_not_repeat_the_title(tmp_path):
    values = {"energy": 2.0, "pcc_delta_centroid": 0.5, "l2_top1000": 3.0, "discrimination": 0.7}
    ends = {group: {name: [value - 0.1, value + 0.1] for name, value in values.items()} for group in ("all", "seen")}
    info = {"intervals": dict.fromkeys(("save", "ceiling"), ends), "counts": {"all": 3, "seen": 2}}
    same, groups = {"save": values, "ceiling": values}, {row: {"seen": values} for row in ("save", "ceiling")}
    write(tmp_path / "a", same, groups=groups, task="perturbation", registry="genetic", info=info)
    text = page(Content(read([tmp_path]), read_jobs([], []), datetime(2026, 1, 2, tzinfo=UTC), tmp_path))
    assert "2.00<small>[1.90, 2.10]</small>" in text.replace("<b>", "").replace("</b>", "")
    said = re.findall(r'<ul class="verdict"><li>(.*?)</li>', text)
    assert len(said) == 2
    assert all(one.startswith("L2") for one in said)
