"""The objects of the library beside others, on few pictures."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import run_record, table, techniques
from benchmarks.technique_cases import CASES, FEATURES, FILES, Bench, Work, nearest_patch
from benchmarks.ways import Missing

SAME_NUMBERS = ("search", "KnnClassifier", "correspondences, pca_rgb", "Bridge", "FewShot")


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Bench(12, 2, tmp_path_factory.mktemp("bench"))


def test_what_is_learned_from_shows_several_classes(bench):
    assert len(bench.learn) == 12 and len(bench.ask) == 2
    assert len(set(bench.learn.labels("class"))) > 3
    assert len(Bench(10**6, 1, bench.scratch).learn) < 10**6


@pytest.mark.parametrize("name", SAME_NUMBERS)
def test_others_compute_the_same(name, bench):
    compared = 0
    for work in CASES[name](bench):
        for other, run in work.others.items():
            theirs = run()
            if theirs is not None:
                compared += 1
                off = techniques.difference(work.run(), theirs)
                assert off < techniques.SAME, f"{work.name}: {other} differs by {off}"
    assert compared


def test_the_nearest_patch_is_found_by_all():
    rng = np.random.default_rng(0)
    bank, maps = rng.normal(size=(50, 8)), rng.normal(size=(3, 4, 5, 8))
    bank, maps = bank.astype(np.float32), maps.astype(np.float32)
    squared = ((maps[..., None, :] - bank) ** 2).sum(-1).min(-1)  # (3, 4, 5)
    for name, score in nearest_patch(bank, maps).items():
        expected = squared.reshape(3, -1).max(1)  # 1 % of 20 patches is one of them
        assert score() == pytest.approx(expected, rel=1e-4), name


def test_times_are_of_one_picture_and_ratios_of_one_turn(monkeypatch):
    clock = SimpleNamespace(now=0.0, slowed=1.0)
    clocks = {"perf_counter": lambda: 2 * clock.now, "process_time": lambda: clock.now}
    monkeypatch.setattr(techniques, "time", SimpleNamespace(**clocks))

    def ours():
        clock.slowed *= 10  # each turn is disturbed more than the last
        clock.now += 0.02 * clock.slowed

    def slower():
        clock.now += 0.06 * clock.slowed

    row = techniques.measured("case", Work("wait", FEATURES, 10, ours, {"slower": slower}), 3)
    assert row["cpu_ms_each"] == pytest.approx(2000)  # of the second of three, after the warm-up
    assert row["ms_each"] == pytest.approx(4000)
    (other,) = row["others"]
    assert other["times_ours"] == pytest.approx(3) and "same" not in other


def test_short_works_are_repeated(monkeypatch):
    clock = SimpleNamespace(now=0.0, calls=0)
    clocks = {"perf_counter": lambda: clock.now, "process_time": lambda: clock.now}
    monkeypatch.setattr(techniques, "time", SimpleNamespace(**clocks))

    def short():
        clock.calls += 1
        clock.now += 0.25

    assert techniques.timed(short, least=1.0) == (250, 250) and clock.calls == 4
    assert techniques.timed(short, least=0.0) == (250, 250) and clock.calls == 5


def test_other_numbers_are_told_apart():
    def ours():
        return np.array([1.0, 2.0])

    others = {"same": lambda: ours() + 1e-5, "wrong": lambda: ours() + 1, "short": lambda: [1.0]}
    row = techniques.measured("case", Work("work", FEATURES, 1, ours, others), 1)
    assert [other["same"] for other in row["others"]] == [True, False, False]
    line = techniques.summary(row)
    assert line.count("OTHER NUMBERS") == 2 and "same: " in line


def test_the_command_measures_or_names_what_is_missing(tmp_path, monkeypatch, capsys):
    def absent(bench):
        raise Missing("not installed: no_such_package")

    monkeypatch.setattr(techniques, "TURNS", 1)
    monkeypatch.setitem(CASES, "Guide", absent)
    monkeypatch.setenv("DINOV2_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "techniques.json"
    arguments = ["--cases", "KnnClassifier", "Guide", "--fit", "12", "--ask", "2", "--threads", "1"]
    assert techniques.main([*arguments, "--out", str(out)]) == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    assert report["run"].keys() >= {"date", "torch", "scikit-learn", "threads", "others_cores"}
    *rows, missing = report["rows"]
    assert {row["given"] for row in rows} == {FEATURES, FILES}
    assert missing == {"case": "Guide", "missing": "not installed: no_such_package"}
    assert not (tmp_path / "cache").exists()  # or the model's passes would have been saved
    assert "not installed" in capsys.readouterr().out
    lines = table.text(table.techniques(report)).splitlines()
    assert sum("KnnClassifier" in line and "scikit-learn" in line for line in lines) == 2


def test_committed_results_have_all_cases_and_the_same_numbers():
    report = table.read(run_record.RESULTS / "techniques.json")
    if report:
        assert {row["case"] for row in report["rows"]} == set(CASES)
        rows = [row for row in report["rows"] if "missing" not in row]
        compared = [other for row in rows for other in row["others"] if "same" in other]
        assert len(compared) >= 7 and all(other["same"] for other in compared)
