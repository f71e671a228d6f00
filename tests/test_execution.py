"""Execution of small notebooks: given up when they hang, never because they are slow."""

import os
import subprocess
import sys

import nbformat
import psutil
import pytest

from tools import notebooks
from tools.execution import offline_environment, run_cells
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


@pytest.mark.parametrize("code", [BUSY.format(seconds=3), BUSY_CHILDREN.format(
    busy=BUSY.format(seconds=0.8))])  # fmt: skip
def test_a_cell_that_works_longer_than_the_stall_limit_is_not_given_up(tmp_path, code):
    execution = run(tmp_path, Limits(stall_seconds=2), code)
    assert execution.error is None
    assert execution.costs.seconds > 2.4
    assert 2.4 < execution.costs.cpu_seconds < 9
    assert execution.cells[0].cpu_seconds <= execution.costs.cpu_seconds


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


def test_a_command_that_hangs_is_ended_with_its_children(tmp_path):
    code = """
import pathlib, subprocess
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
pathlib.Path("id").write_text(str(child.pid))
child.wait()
"""
    command = [sys.executable, "-S", "-c", code]
    assert run_watched(command, tmp_path, os.environ, Limits(stall_seconds=2)) is None
    child = int((tmp_path / "id").read_text())
    if psutil.pid_exists(child):  # ended, though nobody may have asked for its status yet
        assert psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_the_status_of_a_command_is_told(tmp_path):
    assert run_watched([sys.executable, "-c", "exit(3)"], tmp_path, os.environ, Limits()) == 3


def test_nbmake_is_ended_when_a_notebook_hangs(tmp_path, monkeypatch, capfd):
    (tmp_path / "notebooks" / "src").mkdir(parents=True)
    project = Project(tmp_path)
    project.source("01_toy").touch()
    asleep = notebook_of("import time\ntime.sleep(600)")
    asleep.metadata["kernelspec"] = {"name": "python3"}
    nbformat.write(asleep, project.notebook("01_toy"))
    monkeypatch.setenv("DINOV2_STALL_SECONDS", "3")
    assert notebooks.test(project) == 1
    said = capfd.readouterr().out
    assert "The notebook named last hangs: no CPU time used for 3 s" in said
    assert "01_toy.ipynb" in said


def test_kernels_compute_with_threads_that_sleep(tmp_path, monkeypatch):
    monkeypatch.setenv("DINOV2_THREADS", "3")
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    environment = offline_environment(tmp_path)
    assert environment["OMP_NUM_THREADS"] == "3"
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
