"""How many threads a process may use, on made-up control groups."""

import os
import subprocess
import sys

import numpy as np  # noqa: F401 - has the BLAS that is looked at
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from dinov2_helpers import threads


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch):
    monkeypatch.delenv("DINOV2_THREADS", raising=False)
    monkeypatch.setattr(threads, "_affinity", lambda: 8)


def write(root, files):
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n", encoding="utf-8")


V1 = "4:memory:/a\n3:cpu,cpuacct:/a/b\n1:name=systemd:/"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, 8),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "200000 100000"}, 2),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "50000 100000"}, 1),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "2500000 100000"}, 8),
        ({"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/cpu.max": "350000 100000"}, 3),
        ({"proc/self/cgroup": "0::/not/mounted", "sys/fs/cgroup/cpu.max": "100000 50000"}, 2),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us": "100000",
            },
            8,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "400000",
                "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000",
            },
            4,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            1,
        ),
    ],
)
def test_the_quota_of_a_container_counts(tmp_path, files, cores):
    write(tmp_path, files)
    assert threads.usable_cores(tmp_path) == cores


def test_the_setting_overrides_what_is_measured(tmp_path, monkeypatch):
    monkeypatch.setenv("DINOV2_THREADS", "12")
    write(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "100000 100000"})
    assert threads.usable_cores(tmp_path) == 12


@pytest.mark.parametrize("named", ["0", "-1", "1.5", "two", " ", "²"])
def test_a_setting_that_is_no_number_of_threads_is_named(named, monkeypatch):
    monkeypatch.setenv("DINOV2_THREADS", named)
    with pytest.raises(ValueError, match=r"DINOV2_THREADS is .*whole number of 1 or more"):
        threads.usable_cores()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")
def test_a_process_that_is_kept_on_one_core_gets_one_thread():
    script = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from dinov2_helpers.threads import thread_environment
print(thread_environment())
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "{'OMP_NUM_THREADS': '1', 'OMP_WAIT_POLICY': 'PASSIVE'}"


@pytest.mark.parametrize(("width", "inside"), [(threads.SMALL, {1}), (threads.SMALL + 1, {2})])
def test_small_matrices_are_solved_on_one_thread_and_large_ones_as_before(width, inside):
    def blas():
        found = threadpool_info()
        return {one["num_threads"] for one in found if one["user_api"] == "blas"}

    with threadpool_limits(2, user_api="blas"):
        with threads.small_solves(width):
            assert blas() == inside
        assert blas() == {2}
