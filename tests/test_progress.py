"""What a run says while it works: plain lines, bars in a terminal, nothing where it was told to be silent."""

import os
import pty
import re
import subprocess
import sys
import time

import pytest

from scsave import progress
from scsave.errors import UserError
from scsave.progress import BARS, PLAIN, SILENT, duration, each, phase, showing
from scsave.runs.run import run

BARRED = """
import logging, sys, time
logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO)
from scsave.progress import BARS, phase, showing
with showing(BARS), phase("flow", 40, "steps") as at:
    for n in range(40):
        at.step(loss=1.5)
        time.sleep(0.02)
    logging.getLogger("x").info("a line of the log")
    with phase("inner", 2):
        print("a printed line")
print("end")
"""


class Loss:
    """A number that counts how often it is read."""

    read = 0

    def __float__(self) -> float:
        Loss.read += 1
        return 0.25


def lines(capsys) -> list[str]:
    out, err = capsys.readouterr()
    assert out == ""
    return [re.sub(r"^\[\d\d:\d\d:\d\d\] ", "", line) for line in err.splitlines()]


def test_a_plain_line_when_a_phase_ends_and_the_loss_is_read_for_it_alone(capsys):
    Loss.read = 0
    with showing(PLAIN, "job 3: "), phase("flow", 1000, "steps") as at:
        for _ in range(1000):
            at.step(loss=Loss())
        assert Loss.read == 0
    (line,) = lines(capsys)
    assert re.fullmatch(r"job 3: flow: 1,000 of 1,000 steps, loss 0\.25, 0\.\d s", line)
    assert Loss.read == 1


def test_plain_lines_while_it_lasts_tell_step_loss_and_time_left(capsys, monkeypatch):
    monkeypatch.setitem(progress.EVERY, PLAIN, 0.05)
    with showing(PLAIN), phase("flow", 100, "steps") as at:
        at.begin_at(50)
        at.at(75, loss=0.5)
        time.sleep(0.3)
    first, *_, last = lines(capsys)
    assert re.fullmatch(r"flow: 75 of 100 steps, loss 0\.5, 0\.\d s left", first)
    assert last.startswith("flow: 75 of 100 steps, loss 0.5, 0.")


def test_a_group_gives_its_line_to_the_phases_inside_and_others_keep_theirs(capsys):
    with showing(PLAIN):
        with phase("fitting", group=True):
            with phase("blocks"), phase("vectors"):
                pass
            assert list(each([1, 2], "flow", "cells", by=256, total=300)) == [1, 2]
        with phase("fitting", group=True):
            pass
    assert [line.split(", 0.")[0].split(": 0.")[0] for line in lines(capsys)] == [
        "blocks",
        "flow: 300 of 300 cells",
        "fitting",
    ]


def test_a_phase_that_fails_has_no_line_and_leaves_nothing_open(capsys):
    with showing(PLAIN):
        with pytest.raises(ValueError, match="no"), phase("blocks"), phase("vectors"):
            raise ValueError("no")
        with phase("flow"):
            pass
    assert [line.partition(":")[0] for line in lines(capsys)] == ["flow"]


@pytest.mark.parametrize("how", [PLAIN, BARS])
def test_nothing_on_other_ranks(capsys, monkeypatch, how):
    monkeypatch.setenv("LOCAL_RANK", "1")
    with showing(how), phase("flow", 3) as at:
        at.step()
    assert lines(capsys) == []


def test_nothing_when_silent_nor_without_a_terminal_where_nobody_asked(capsys):
    with showing(SILENT), phase("flow"):
        pass
    with phase("flow"):
        pass
    assert lines(capsys) == []


def in_a_terminal(code: str) -> str:
    """What a program writes to a terminal of 100 columns."""
    master, slave = pty.openpty()
    environment = os.environ | {"COLUMNS": "100", "LINES": "40", "TERM": "xterm"}
    done = subprocess.Popen([sys.executable, "-c", code], stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    parts = []
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # Linux, when the program has ended
            break
        if not part:
            break
        parts.append(part)
    os.close(master)
    assert done.wait() == 0
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", b"".join(parts).decode())


def test_in_a_terminal_a_bar_that_logs_and_prints_do_not_break():
    shown = in_a_terminal(BARRED).replace("\r", "\n")
    bars = [line.strip() for line in shown.splitlines() if line.startswith("flow")]
    assert all("━" in line for line in bars)
    assert any(re.search(r"\d+ of 40 steps, loss 1\.5, 0\.\d s left", line) for line in bars)
    assert re.search(r"40 of 40 steps, loss 1\.5, \d\.\d s$", bars[-1])
    assert {"a line of the log", "a printed line", "end"} <= {line.strip() for line in shown.splitlines()}


def test_a_run_says_each_phase_or_nothing(tiny, tmp_path, capfd, monkeypatch):
    monkeypatch.setitem(progress.EVERY, PLAIN, 1e6)  # on a busy machine a phase may take longer than ten seconds
    run(tiny(), tmp_path / "run")
    said = capfd.readouterr().err
    phases = ("reading", "blocks", "autoencoder", "latents", "flow", "sampling", "scoring")
    found = [re.sub(r"^\[.*?\] ", "", line).partition(":")[0] for line in said.splitlines()]
    assert [name for name in found if name in phases] == list(phases)
    assert "autoencoder: 4 of 4 steps, loss " in said
    run(tiny("progress=false", "force=true"), tmp_path / "run")
    assert capfd.readouterr().err == ""


def test_the_switch_is_checked(tiny, tmp_path):
    with pytest.raises(UserError, match="progress"):
        run(tiny("progress=perhaps"), tmp_path / "run")


def test_durations():
    assert [duration(s) for s in (0.04, 9.9, 59, 200, 7500)] == ["0.0 s", "9.9 s", "59 s", "3 min 20 s", "2 h 5 min"]
