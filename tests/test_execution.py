"""Execution of small notebooks: given up when they hang, never because they are slow."""

import io
import json
import os
import subprocess
import sys
import time

import nbformat
import psutil
import pytest

from tools import machine, notebooks, recorded, rerun
from tools.execution import offline_environment, run_cells
from tools.progress import Progress, expectation
from tools.project import Project
from tools.watch import Limits, ProcessWatch, run_watched

BUSY = """
import time
until = time.process_time() + {seconds}
while time.process_time() < until:
    pass
"""
# A chain of processes that each work for a little while and end.
BUSY_CHILDREN = """
import subprocess, sys
for _ in range(4):
    subprocess.run([sys.executable, "-S", "-c", '''{busy}'''], check=True)
"""


def notebook_of(*codes):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in codes])


def run(tmp_path, limits, *codes):
    return run_cells("01_toy", notebook_of(*codes), tmp_path, limits)


def test_a_notebook_that_sleeps_is_given_up_and_its_cell_named(tmp_path):
    asleep = "# a long rest\nimport time\ntime.sleep(600)"
    execution = run(tmp_path, Limits(stall_seconds=3), "1 + 1", asleep, "2 + 2")
    assert execution.error == (
        "code cell 2 of 3, `# a long rest`: no CPU time used for 3 s (DINOV2_STALL_SECONDS)"
    )
    assert 3 < execution.costs.seconds < 60


@pytest.mark.parametrize("code", [BUSY.format(seconds=6), BUSY_CHILDREN.format(
    busy=BUSY.format(seconds=1.6))])  # fmt: skip
def test_a_cell_that_works_longer_than_the_stall_limit_is_not_given_up(tmp_path, code):
    # not less than 4 s: so long may a busy machine give a process no time at all
    execution = run(tmp_path, Limits(stall_seconds=4), code)
    assert execution.error is None
    assert execution.costs.seconds > 4.8
    assert 4.8 < execution.costs.cpu_seconds < 12
    assert execution.cells[0].cpu_seconds <= execution.costs.cpu_seconds


def test_time_in_which_the_watch_did_not_run_is_no_time_without_work(monkeypatch):
    """A laptop that slept for an hour has not found its notebook hanging."""
    clock = iter([0.0, 0.2, 3600.0, 3600.2])
    monkeypatch.setattr("tools.watch.time.monotonic", lambda: next(clock))
    watch = ProcessWatch(Limits(stall_seconds=2), root=os.getpid())
    monkeypatch.setattr(watch, "_sample", lambda: None)
    for _ in range(3):
        watch.cpu_seconds()
    assert not watch.stalled()


def test_a_notebook_that_works_without_end_is_given_up_at_last(tmp_path):
    execution = run(tmp_path, Limits(notebook_seconds=6), "while True:\n    pass")
    assert execution.error == (
        "code cell 1 of 1, `while True:`: longer than 6 s in all (DINOV2_NOTEBOOK_SECONDS)"
    )


def test_a_kernel_that_dies_is_told_with_its_cell(tmp_path):
    execution = run(tmp_path, Limits(), "import os", "os._exit(1)")
    assert execution.error == (
        "the kernel died in code cell 2 of 2, `os._exit(1)`, perhaps for lack of memory"
    )


def test_limits_come_from_the_environment(monkeypatch):
    assert Limits.from_environment() == Limits(300, 3600)
    monkeypatch.setenv("DINOV2_STALL_SECONDS", "12.5")
    monkeypatch.setenv("DINOV2_NOTEBOOK_SECONDS", "7200")
    assert Limits.from_environment() == Limits(12.5, 7200)


@pytest.mark.parametrize("value", ["five", "0", "-3", "nan", "inf"])
@pytest.mark.parametrize("name", ["DINOV2_STALL_SECONDS", "DINOV2_NOTEBOOK_SECONDS"])
def test_a_limit_that_is_no_number_of_seconds_is_named(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"{name} is '{value}'"):
        Limits.from_environment()


def test_the_time_of_children_that_have_ended_counts():
    code = BUSY_CHILDREN.format(busy=BUSY.format(seconds=0.8))
    with ProcessWatch(Limits()) as watch:
        subprocess.run([sys.executable, "-S", "-c", code], check=True)
        used = watch.cpu_seconds()
    assert 2.4 < used < 6
    assert watch.cpu_seconds() >= used


def ends(number):
    """Whether a process that was killed is gone soon, or has a status that nobody asked for yet."""
    for _ in range(100):
        try:
            if psutil.Process(number).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.1)
    return False


def test_a_command_that_hangs_is_ended_with_its_children(tmp_path):
    code = """
import pathlib, subprocess
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
pathlib.Path("id").write_text(str(child.pid), encoding="utf-8")
child.wait()
"""
    command = [sys.executable, "-S", "-c", code]
    assert run_watched(command, tmp_path, os.environ, Limits(stall_seconds=2)) is None
    child = int((tmp_path / "id").read_text(encoding="utf-8"))
    assert ends(child)


def test_the_status_of_a_command_is_told(tmp_path):
    assert run_watched([sys.executable, "-c", "exit(3)"], tmp_path, os.environ, Limits()) == 3


def test_nbmake_is_ended_when_a_notebook_hangs(tmp_path, monkeypatch, capfd):
    (tmp_path / "notebooks" / "src").mkdir(parents=True)
    settings = "[tool.dinov2-in-practice]\nweekly_notebooks = []\n"
    (tmp_path / "pyproject.toml").write_text(settings, encoding="utf-8")
    project = Project(tmp_path)
    project.source("01_toy").touch()
    asleep = notebook_of("import time\ntime.sleep(600)")
    asleep.metadata["kernelspec"] = {"name": "python3"}
    nbformat.write(asleep, project.notebook("01_toy"))
    monkeypatch.setenv("DINOV2_STALL_SECONDS", "3")
    assert notebooks.test(project) == 1
    said = capfd.readouterr().out
    assert (
        "A notebook that is named last, and has not passed, hangs: no CPU time used for 3 s" in said
    )
    assert "01_toy.ipynb" in said


def test_kernels_compute_with_threads_that_sleep(tmp_path, monkeypatch):
    monkeypatch.setenv("DINOV2_THREADS", "3")
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    environment = offline_environment(tmp_path)
    assert environment["OMP_NUM_THREADS"] == "3"
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"


def test_the_machine_is_measured_with_the_threads_of_the_kernels(tmp_path):
    gflops = machine.gflops(offline_environment(tmp_path))
    assert 0.1 < gflops < 100_000


@pytest.mark.parametrize(
    ("costs", "gflops", "said"),
    [
        (
            {"seconds": 32, "gflops": 155},
            50,
            "about 99 s here: this machine is 3.1 times slower than the one that the card names",
        ),
        (
            {"seconds": 40, "gflops": 50},
            100,
            "about 20 s here: this machine is 2.0 times faster than the one that the card names",
        ),
        (
            {"seconds": 40, "gflops": 100},
            105,
            "about 38 s here: this machine is as fast as the one that the card names",
        ),
        ({"seconds": 40}, 100, "40 s on a machine of unknown rate"),
        (None, 100, "time not known: it was not measured yet"),
    ],
)
def test_what_to_expect_is_scaled_to_this_machine(costs, gflops, said):
    assert expectation(costs, gflops) == said


class Terminal(io.StringIO):
    def isatty(self):
        return True


def show(out):
    progress = Progress("01_toy", out)
    progress.start("about 9 s here")
    for number in range(1, 13):
        progress.cell(number, 12)
    progress.end("ok")
    return out.getvalue()


def test_a_terminal_shows_the_cell_in_a_line_that_is_rewritten():
    expected, *rewritten = show(Terminal()).split("\r")
    assert expected == "01_toy: about 9 s here\n01_toy: cell 1 of 12, 0 s"
    assert rewritten[0] == "01_toy: cell 2 of 12, 0 s"
    assert rewritten[-1].rstrip(" \n") == "01_toy: ok"
    assert len(rewritten[-1].rstrip("\n")) == len(rewritten[-2])  # nothing of it stays in view


def test_elsewhere_a_notebook_has_two_lines():
    assert show(io.StringIO()) == "01_toy: about 9 s here\n01_toy: ok\n"


TWICE = """\
# %%
import time

# %%
# works once
letters = list("ab")

# %%
total = sum([1, 2])

# %%
list, sum = letters, total

# %%
until = time.process_time() + 1.3
while time.process_time() < until:
    pass
"""


@pytest.fixture
def toy(tmp_path):
    for folder in ("notebooks/src", "data"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "data" / "MANIFEST.sha256").write_text("no data\n", encoding="utf-8")
    project = Project(tmp_path)
    project.source("01_toy").write_text(TWICE, encoding="utf-8")
    return project


def test_cells_that_work_only_once_are_named(toy, capsys):
    assert notebooks.run_again(toy, ["01_toy"]) == 2
    said = capsys.readouterr().out
    assert "01_toy: `# works once` fails when it runs again: TypeError" in said
    assert "01_toy: `total = sum([1, 2])` fails when it runs again: TypeError" in said


def test_cells_that_are_known_to_work_only_once_are_no_problem(toy, capsys):
    assert notebooks.run_again(toy, ["01_toy"], write=True) == 0
    written = json.loads((toy.root / "notebooks" / "rerun_known.json").read_text(encoding="utf-8"))
    assert written == {"01_toy": ["# works once", "total = sum([1, 2])"]}
    assert notebooks.run_again(toy, ["01_toy"]) == 0


def test_a_cell_that_no_longer_fails_must_leave_the_list():
    failures = [rerun.Failure("a = 1", "ValueError: no")]
    assert list(rerun.problems(["a = 1"], failures)) == []
    assert list(rerun.problems(["a = 1", "a = 1", "b = 2"], failures)) == [
        "`a = 1` no longer fails: take it out of notebooks/rerun_known.json",
        "`b = 2` no longer fails: take it out of notebooks/rerun_known.json",
    ]
    assert len(list(rerun.problems(["a = 1"], failures * 2))) == 1


def test_other_notebooks_stay_in_the_list_and_empty_ones_do_not(toy):
    known = {"01_toy": ["a"], "02_other": ["b"]}
    recorded.write(toy.root / rerun.KNOWN, known)
    rerun.write_known(toy, {"01_toy": []})
    assert rerun.read_known(toy) == {"02_other": ["b"]}


def test_a_notebook_that_fails_the_first_time_is_a_problem_and_writes_no_list(toy, capsys):
    toy.source("01_toy").write_text("# %%\n1 / 0\n", encoding="utf-8")
    assert notebooks.run_again(toy, ["01_toy"], write=True) == 1
    assert "ZeroDivisionError" in capsys.readouterr().out
    assert not (toy.root / rerun.KNOWN).exists()


def test_a_profile_names_the_cells_that_take_long(toy, capsys):
    assert notebooks.show_profile(toy, ["01_toy"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (cell,) = [line for line in lines if " s  cell " in line]
    assert cell.endswith("cell  5  until = time.process_time() + 1.3")
    assert 1.2 < float(cell.split()[0]) < 3
    (total,) = [line for line in lines if line.endswith("of CPU time in all")]
    assert float(total.split()[0]) >= float(cell.split()[0])


def test_notebooks_are_chosen_by_their_beginning(toy):
    assert toy.chosen(["01"]) == toy.chosen([]) == ["01_toy"]
    with pytest.raises(SystemExit, match="no notebook begins with '08': 01_toy"):
        toy.chosen(["08"])
