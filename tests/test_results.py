import json
import subprocess
import sys

import numpy as np
import pytest
from filelock import FileLock, Timeout

from dinov2_helpers import claims
from dinov2_helpers.claims import claim, record, results_dir, say
from tools.project import ROOT
from tools.readme import ledger
from tools.recorded import read


def recorded(profile="tiny"):
    """The numbers of a profile so far."""
    return read(results_dir() / f"{profile}.json")


ROW = {"how": "turntable", "measured": "0.83", "verdict": "holds in part", "cell": "Viewpoint"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DINOV2_RESULTS", str(tmp_path / "results"))
    monkeypatch.delenv("DINOV2_PROFILE", raising=False)
    return tmp_path / "results"


def test_numbers_are_flat_sorted_and_rounded(folder):
    assert record("01.knn_class", np.float32(0.123456)) == 0.1235
    record("01.images", np.int64(123456))
    record("01.a_first", 2 / 3)
    text = (folder / "tiny.json").read_text(encoding="utf-8")
    assert (
        text == '{\n  "01.a_first": 0.6667,\n  "01.images": 123456,\n  "01.knn_class": 0.1235\n}\n'
    )
    record("01.images", 3)
    assert recorded() == {"01.a_first": 0.6667, "01.images": 3, "01.knn_class": 0.1235}


def test_every_profile_has_its_own_numbers(monkeypatch):
    record("01.knn_class", 0.5)
    monkeypatch.setenv("DINOV2_PROFILE", "base")
    assert recorded("base") == {}
    record("01.knn_class", 0.9)
    assert recorded() == {"01.knn_class": 0.5} and recorded("base") == {"01.knn_class": 0.9}


@pytest.mark.parametrize("key", ["knn", "1.knn", "01.", "01.KNN", "01.knn class", "01.a/../b"])
def test_a_key_has_one_form(folder, key):
    with pytest.raises(ValueError, match=r"01\.knn_class"):
        record(key, 1)
    assert not folder.exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan")])
def test_only_finite_numbers_are_results(value):
    with pytest.raises(ValueError, match=r"01\.loss is"):
        record("01.loss", value)


def test_a_failing_write_leaves_the_old_file(folder, monkeypatch):
    record("01.a", 1)

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        record("01.a", 2)
    assert json.loads((folder / "tiny.json").read_text(encoding="utf-8")) == {"01.a": 1}


RECORDS_MANY = """
import sys
from dinov2_helpers.claims import record

print("ready", flush=True)
sys.stdin.readline()
for i in range(150):
    record(f"01.{sys.argv[1]}_{i}", i)
"""


def test_two_processes_that_record_at_once_lose_nothing():
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", RECORDS_MANY]
    processes = [subprocess.Popen([*command, name], **pipes) for name in ("one", "two")]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=120)
        assert process.returncode == 0
    assert recorded() == {f"01.{name}_{i}": i for name in ("one", "two") for i in range(150)}


def test_a_results_file_that_another_holds_for_long_is_named(folder, monkeypatch):
    record("01.a", 1)
    monkeypatch.setattr(claims, "LOCK_SECONDS", 0.1)
    with FileLock(folder / "tiny.lock"), pytest.raises(Timeout, match=r"tiny\.lock"):
        record("01.a", 2)
    assert recorded() == {"01.a": 1}


def test_without_a_setting_results_go_where_git_ignores_them(monkeypatch):
    monkeypatch.delenv("DINOV2_RESULTS")
    command = ["git", "check-ignore", "--quiet", str(results_dir() / "tiny.json")]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def test_results_go_to_the_checkout_or_beside_the_notebook(tmp_path, monkeypatch):
    monkeypatch.delenv("DINOV2_RESULTS")
    monkeypatch.setattr(claims, "__file__", str(tmp_path / "dinov2_helpers" / "claims.py"))
    assert str(results_dir()) == "results"
    (tmp_path / "notebooks").mkdir()
    assert results_dir() == tmp_path / "build" / "results"


def test_the_ledger_is_a_table_of_the_claims_in_order(folder):
    claim("03.heads", "several heads | are better", **ROW)
    claim("01.geometric_consistency", "other viewpoint, close features", **ROW)
    owners = {"03.heads": "evidence/03_parts"}
    assert ledger(read(folder / "tiny_claims.json"), owners).splitlines() == [
        "| The article claims | Tested by | We measured | Verdict | Notebook, section |",
        "| --- | --- | --- | --- | --- |",
        "| other viewpoint, close features | turntable | 0.83 | holds in part | 01, Viewpoint |",
        r"| several heads \| are better | turntable | 0.83 | holds in part "
        "| [03](notebooks/evidence/03_parts.ipynb), Viewpoint |",
    ]
    assert recorded() == {}


def test_a_claim_has_one_of_three_verdicts(folder):
    with pytest.raises(ValueError, match="does not hold"):
        claim("01.x", "claim", **{**ROW, "verdict": "maybe"})
    assert not folder.exists()


def test_say_puts_computed_values_into_prose(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    say("k-NN finds **{accuracy:.0%}**", accuracy=0.874)
    say("a table with {braces}")
    assert [markdown.data for markdown in shown] == ["k-NN finds **87%**", "a table with {braces}"]
