"""The benchmarks, at sizes that take seconds."""

import json
import re
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import (
    anomaly,
    backends,
    dataset_growth,
    extraction,
    faiss_indexes,
    growth,
    large_pictures,
    passages,
    pq_by_size,
    run_record,
    table,
    ways,
)
from dinov2_helpers import load_dinov2
from dinov2_helpers.samples import data_dir, photographs
from dinov2_scale import extract_dataset
from tools.project import ROOT

ROW = {
    "n", "index", "setting", "recall", "build_seconds", "bytes_per_vector", "code_bytes_per_vector",
    "per_second_1_thread", "per_second_2_threads", "per_second_alone",
    "speedup_1_thread", "speedup_2_threads", "speedup_alone",
}  # fmt: skip
RUN = {
    "date", "python", "numpy", "faiss", "faiss_options", "processor", "cores", "omp_wait_policy",
    "blas_threshold", "vectors", "dim", "seed", "neighbours", "queries", "timed_of_large", "turns",
    "recipes", "seconds", "peak_mb", "others_cores",
}  # fmt: skip


@pytest.fixture
def small(monkeypatch):
    """Few queries, no repeats, and random features in place of the model's."""
    features = np.random.default_rng(0).normal(size=(200, 16))
    monkeypatch.setattr(faiss_indexes, "real_vectors", lambda: (features, "noise"))
    for name, value in (("QUERIES", 20), ("TURNS", 1), ("LEAST", 0)):
        monkeypatch.setattr(faiss_indexes, name, value)


def test_the_command_writes_rows_and_the_record_of_its_run(small, tmp_path, capsys):
    out = tmp_path / "new" / "results.json"
    assert faiss_indexes.main(["--sizes", "500", "2000", "--out", str(out)]) == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    recipes = faiss_indexes.notebook_code()["RECIPES"]
    assert report.keys() == {"run", "grown", "rows"}
    assert report["run"].keys() == RUN
    assert report["grown"].keys() == {"500", "2000"}
    assert all(row.keys() == ROW for row in report["rows"])
    assert {(row["n"], row["index"], row["setting"]) for row in report["rows"]} == {
        (n, name, setting)
        for n in (500, 2000)
        for name, (_, settings) in recipes.items()
        for setting in settings
    }
    flat = next(row for row in report["rows"] if row["index"] == "Flat")
    assert flat["recall"] == 1 and flat["bytes_per_vector"] == pytest.approx(64, rel=0.02)
    assert capsys.readouterr().out.count("\n") == 2 * len(recipes)


def test_an_interrupted_run_keeps_what_was_measured(small, tmp_path, monkeypatch):
    out = tmp_path / "results.json"
    code = faiss_indexes.notebook_code()

    def stop(name, *arguments):
        if name == "HNSW":
            raise KeyboardInterrupt
        return code["measure"](name, *arguments)

    monkeypatch.setattr(faiss_indexes, "notebook_code", lambda: code | {"measure": stop})
    with pytest.raises(KeyboardInterrupt):
        faiss_indexes.main(["--sizes", "500", "--out", str(out)])
    kept = {row["index"] for row in json.loads(out.read_text(encoding="utf-8"))["rows"]}
    assert kept == {"Flat", "IVF-Flat"}


def test_rows_of_other_sizes_stay_and_of_many_vectors_fewer_queries_are_timed(
    small, tmp_path, monkeypatch
):
    out = tmp_path / "results.json"
    code = faiss_indexes.notebook_code()
    timed = []

    def quick(name, x, flat, queries, ways, n_timed, *_):
        timed.append((len(x), len(queries), n_timed))
        return [dict.fromkeys(ROW, 0.0) | {"n": len(x), "index": name, "setting": ""}]

    monkeypatch.setattr(faiss_indexes, "notebook_code", lambda: code | {"measure": quick})
    monkeypatch.setattr(faiss_indexes, "LARGE", 1_000)
    monkeypatch.setattr(faiss_indexes, "TIMED", 7)
    for n in ("500", "2000"):
        assert faiss_indexes.main(["--sizes", n, "--out", str(out)]) == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    n_indexes = len(code["RECIPES"])
    assert [row["n"] for row in report["rows"]] == n_indexes * [500] + n_indexes * [2000]
    assert report["grown"].keys() == {"500", "2000"}
    assert timed == n_indexes * [(500, 20, 20)] + n_indexes * [(2000, 20, 7)]


def test_codes_of_every_saving_are_measured_at_every_size(small, tmp_path, capsys):
    out = tmp_path / "results.json"
    assert pq_by_size.main(["--sizes", "500", "2000", "--out", str(out)]) == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    savings = pq_by_size.notebook_code()["SAVINGS"]
    measured = [(row["n"], row["saves"]) for row in report["rows"]]
    assert measured == [(n, saves) for n in (500, 2000) for saves in savings]
    for row in report["rows"]:
        for value, low, high in (row["alone"], row["reranked"]):
            assert 0 <= low <= value <= high <= 1
        assert row["reranked"][0] >= row["alone"][0]
    assert report["run"]["queries"] == 20
    assert "32 times smaller" in capsys.readouterr().out


def test_rows_of_another_machine_do_not_stand_beside_new_ones(tmp_path):
    out = tmp_path / "results.json"
    record = run_record.machine(faiss="1.15.1")
    assert run_record.of_other_sizes(out, record, [10]) == []
    out.write_text(json.dumps({"run": record, "rows": [{"n": 10}, {"n": 20}]}), encoding="utf-8")
    later = record | {"date": "2030-01-01", "seconds": 5}
    assert run_record.of_other_sizes(out, later, [10]) == [{"n": 20}]
    elsewhere = record | {"processor": "another", "faiss": "1.12"}
    assert run_record.of_other_sizes(out, elsewhere, [10, 20]) == []
    with pytest.raises(ValueError, match="with other faiss, processor"):
        run_record.of_other_sizes(out, elsewhere, [10])


def test_rounded():
    given = {"a": [1.23456, {"b": 123456.7}], "c": 123456, "d": "x"}
    assert run_record.rounded(given) == {"a": [1.235, {"b": 123500.0}], "c": 123456, "d": "x"}


def test_the_committed_results_fit_the_notebook():
    report = json.loads(
        (data_dir() / "benchmarks" / "faiss_indexes.json").read_text(encoding="utf-8")
    )
    code = faiss_indexes.notebook_code()
    assert report["run"].keys() == RUN
    assert report["run"]["seed"] == code["SEED"]
    recipes = {name: recipe for name, (recipe, _) in code["RECIPES"].items()}
    assert report["run"]["recipes"] == recipes
    wanted = {
        (n, name, setting)
        for n in (1_000, 10_000, 100_000, 1_000_000)
        for name, (_, settings) in code["RECIPES"].items()
        for setting in settings
    }
    rows = [(row["n"], row["index"], row["setting"]) for row in report["rows"]]
    assert len(rows) == len(wanted) and set(rows) == wanted


MACHINE = {"date", "python", "processor", "cores", "threads", "seconds", "peak_mb"}
COMPARED = {
    "shape", "way", "batch", "cls_differs_by", "patches_differ_by", "same", "pictures_per_second",
    "seconds_each", "times_slower_than_ours", "share_of_products",
    "share_of_products_and_decoding",
}  # fmt: skip
FLOOR = {
    "pictures", "multiply_adds", "multiply_adds_per_second", "fastest_product",
    "products_seconds", "decoding_seconds",
}  # fmt: skip


@pytest.fixture
def quick(monkeypatch, dinov2_folder):
    """Few turns and small products, on a small random model."""
    monkeypatch.setattr(extraction, "model_folder", lambda shape, scratch: dinov2_folder)
    values = {"TURNS": 2, "BATCHES": (1, 2), "SQUARES": (64,), "LEAST": 0.001}
    for name, value in values.items():
        monkeypatch.setattr(extraction, name, value)


def extracted(out, *more):
    arguments = ["--shapes", "tiny", "--pictures", "3", "--threads", "1", "--out", str(out), *more]
    assert extraction.main(arguments) == 0
    return json.loads(out.read_text(encoding="utf-8"))


def absent(at):
    ways.need("no_such_package")


def test_ways_are_measured_in_processes_or_named_as_missing(quick, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(extraction.WAYS, "absent", (absent, True))
    names = ["ours", "transformers pipeline", "absent"]
    report = extracted(tmp_path / "new" / "results.json", "--ways", *names)
    assert report.keys() == {"run", "floors", "rows"}
    assert report["run"].keys() >= MACHINE | {"turns", "sizes", "torch", "transformers"}
    assert report["floors"].keys() == {"tiny"} and report["floors"]["tiny"].keys() == FLOOR
    assert [row["way"] for row in report["rows"]] == names
    for row in report["rows"][:2]:
        assert row.keys() == COMPARED
        assert len(row["seconds_each"]) == 2
        assert row["same"] and row["patches_differ_by"] < 1e-5
    assert report["rows"][0]["times_slower_than_ours"] == 1
    assert report["rows"][2]["missing"] == "not installed: no_such_package"
    printed = capsys.readouterr().out
    assert all(f"tiny   {way}" in printed for way in names)


IN_OTHER_ENGINES = ("ONNX Runtime", "OpenVINO")  # these start threads of their own


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.weekly] if name in IN_OTHER_ENGINES else [])
        for name in ways.WAYS
    ],
)
def test_every_way_gives_the_same_numbers(name, dinov2, dinov2_folder, tmp_path):
    paths = ways.write_pictures(tmp_path, 3)
    at = ways.Setting(dinov2, dinov2_folder, tmp_path, 1)
    try:
        extract = ways.WAYS[name][0](at)
    except ways.Missing as missing:
        pytest.skip(str(missing))
    expected = ways.ours(at)(paths, 1)
    for found, right in zip(extract(paths, 2), expected, strict=True):
        assert found.shape == right.shape and np.abs(found - right).max() < 1e-5


def careless(at):
    right = ways.ours(at)
    return lambda paths, batch: tuple(part + 0.01 for part in right(paths, batch))


def test_a_way_that_computes_other_numbers_is_told_apart(quick, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(extraction.WAYS, "careless", (careless, True))
    report = extracted(tmp_path / "results.json", "--ways", "careless")
    ours, other = report["rows"]
    assert ours["same"] and ours["cls_differs_by"] == 0 and ours["batch"] is None
    assert not other["same"] and other["cls_differs_by"] == pytest.approx(0.01, rel=0.1)
    assert other["batch"] in (1, 2)
    assert "OTHER NUMBERS" in capsys.readouterr().out


def test_a_package_that_is_missing_or_broken_is_named(tmp_path, monkeypatch):
    (tmp_path / "built_for_another_torch.py").write_text(
        "raise RuntimeError('no operator')", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ways.Missing, match="not installed: no_such_package"):
        ways.need("json", "no_such_package")
    with pytest.raises(ways.Missing, match="does not import: no operator"):
        ways.need("built_for_another_torch")


def test_the_pictures_are_different_files_of_the_stated_sizes(tmp_path):
    paths = ways.write_pictures(tmp_path, 20)
    assert len({path.read_bytes() for path in paths}) == 20
    sizes = {Image.open(path).size for path in paths}
    assert sizes == set(ways.SIZES)
    assert {Image.open(path).format for path in paths} == {"JPEG"}


@pytest.mark.parametrize("folder", ["dinov2_folder", "registers_folder"])
def test_the_multiply_adds_are_those_that_torch_counts(folder, request):
    dinov2 = load_dinov2(request.getfixturevalue(folder), attention="eager")
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        dinov2.model(pixel_values=torch.zeros(1, 3, 140, 140))
    tokens = 10 * 10 + 1 + dinov2.n_registers
    assert 2 * extraction.multiply_adds(dinov2, tokens) == counter.get_total_flops()


def test_the_floor_takes_the_fastest_product(monkeypatch):
    def multipliers(weight):
        return {"slow": lambda x: time.sleep(0.02), "fast": lambda x: time.sleep(0.001)}

    monkeypatch.setattr(extraction, "multipliers", multipliers)
    monkeypatch.setattr(extraction, "LEAST", 0.01)
    rate, name = extraction.best_rate([(2, 3, 4), (20, 30, 40)])
    assert name == "fast, 20 x 40 by 40 x 30"
    assert 20 * 30 * 40 / 0.02 < rate <= 20 * 30 * 40 / 0.001


def test_all_libraries_multiply_alike():
    weight, x = torch.randn(5, 7), torch.randn(3, 7)
    with torch.inference_mode():
        for name, multiply in extraction.multipliers(weight).items():
            found = torch.as_tensor(multiply(x))
            assert torch.allclose(found, x @ weight.T, atol=1e-5), name


def test_batches_for_others_are_in_order_and_the_last_is_filled(dinov2, tmp_path):
    paths = ways.write_pictures(tmp_path, 5)
    at = ways.Setting(dinov2, tmp_path, tmp_path, 2)
    batches = dict(ways.full_batches(at, paths, 2))
    assert {start: len(pixels) for start, pixels in batches.items()} == {0: 2, 2: 2, 4: 2}
    assert batches[4][0].any() and not batches[4][1].any()
    backwards = {start: pixels[:, :1] for start, pixels in reversed(batches.items())}
    cls, _ = ways.in_order(backwards, 5)
    expected = [ways.to_pixels(ways.open_image(p), dinov2)[0] for p in paths]
    assert np.array_equal(cls, expected)


def test_backends_are_measured_in_turns(monkeypatch, dinov2_folder, tmp_path, capsys):
    monkeypatch.setattr(backends, "model_folder", lambda *_: dinov2_folder)
    monkeypatch.setattr(backends, "BACKENDS", ("torch", "onednn"))
    monkeypatch.setattr(backends, "need", lambda *_: [])
    out = tmp_path / "backends.json"
    monkeypatch.setattr(backends, "COUNTS", (1, 3))
    assert backends.main(["--shapes", "tiny", "--turns", "2", "--out", str(out)]) == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    assert report["run"].keys() >= MACHINE | {"cpu"}
    assert [(row["backend"], row["pictures"]) for row in report["rows"]] == [
        ("torch", 1),
        ("onednn", 1),
        ("torch", 3),
        ("onednn", 3),
    ]
    for row in report["rows"]:
        assert row["least_cpu_ms_each"] == pytest.approx(min(row["cpu_ms"]) / row["pictures"], 0.01)
        assert row["differs_by"] < 1e-5 and row["first_cpu_ms"] > 0
    assert report["rows"][0]["times_first"] == 1
    assert "3 pictures" in capsys.readouterr().out
    assert table.backends(report).rows[0][:3] == ("tiny", "torch", "1")


def test_large_pictures_are_read_by_each_way_and_compared(
    monkeypatch, dinov2_folder, tmp_path, capsys
):
    monkeypatch.setattr(large_pictures, "SIDES", {12: (1300, 1100)})
    monkeypatch.setattr(large_pictures, "PICTURES", 1)
    monkeypatch.setattr(large_pictures, "model_folder", lambda *_: dinov2_folder)
    few = dict([*photographs().items()][:2])
    monkeypatch.setattr(large_pictures, "photographs", lambda: few)
    out = tmp_path / "large.json"
    arguments = ["--shapes", "tiny", "--megapixels", "12", "--ways", "ours, exact", "--turns", "1"]
    assert large_pictures.main([*arguments, "--out", str(out)]) == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    assert report["run"].keys() >= MACHINE
    assert [row["way"] for row in report["rows"]] == ["ours", "ours, exact"]
    ours, exact = report["rows"]
    assert ours["times_ours"] == 1 and len(exact["cpu_ms_each"]) == 1
    assert exact["times_ours"] == pytest.approx(
        exact["cpu_ms_each"][0] / ours["cpu_ms_each"][0], 0.01
    )
    plain, noisy = report["likeness"]
    assert (plain["pictures"], plain["noise"], noisy["noise"]) == (2, 0, large_pictures.NOISE)
    for found in (plain, noisy):
        most, middle = found["patch_lacks_at_most"], found["patch_lacks_in_the_middle"]
        assert 0 < middle <= most < 0.1 and 0 < found["cls_lacks_at_most"] < 0.1
    assert "ours, exact" in capsys.readouterr().out
    section = table.large(report)
    assert section.rows[0] == ("tiny", "12 MP", "ours", section.rows[0][3], "1.00")


def test_growth_runs_in_a_process_for_each_size_and_is_drawn(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(growth, "TURNS", 1)
    monkeypatch.setattr(growth, "FILES", 2)
    out = tmp_path / "growth.json"
    assert growth.main(["5", "--threads", "1", "--out", str(out)]) == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    assert report["run"].keys() >= MACHINE
    (row,) = report["rows"]
    assert row["n"] == 5 and len(row["seconds_each_by_chunk"]) == 1
    assert row["peak_mb"] >= row["before_mb"] > 100
    assert "5 pictures" in capsys.readouterr().out
    with Image.open(out.with_suffix(".png")) as drawn:
        assert drawn.width > 800


def test_datasets_are_made_in_a_process_of_their_own_and_compared(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(dataset_growth, "ENGINES", ("local",))  # Ray takes a minute to start
    monkeypatch.setattr(dataset_growth, "FILES", 2)
    out = tmp_path / "datasets.json"
    assert dataset_growth.main(["5", "--cores", "1", "--out", str(out)]) == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    assert report["run"].keys() >= MACHINE and "others_cores" not in report["run"]
    (row,) = report["rows"]
    assert (row["n"], row["pictures"], row["errors"], row["files"]) == (5, 5, 0, 1)
    assert row["bytes"] > 2 * 192 * 4 and row["differs_by"] == 0  # of two different files
    assert row["again_seconds"] < row["seconds"]
    assert "5 local" in capsys.readouterr().out
    section = table.datasets(report)
    assert section.rows[0][:2] == ("5", "local")
    assert len(section.rows[0]) == len(section.heads)


def test_memory_is_that_of_all_processes_and_is_looked_at_meanwhile(monkeypatch):
    monkeypatch.setattr(dataset_growth, "LOOK_EVERY", 0.05)
    alone = dataset_growth.memory_mb(psutil.Process())
    script = "import time; kept = bytearray(10**8); print(1, flush=True); time.sleep(60)"

    def work():
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as child:
            child.stdout.readline()
            time.sleep(0.5)
            child.kill()
        return "done"

    taken = dataset_growth.watched(work)
    assert taken.result == "done" and taken.seconds >= 0.5
    assert taken.peak_mb > alone + 95


def test_datasets_of_other_pictures_are_not_compared(dinov2_folder, picture, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        picture(40, 40).save(tmp_path / name / f"{name}.png")
        extract_dataset(tmp_path / name, tmp_path / f"of {name}", dinov2_folder)
    assert dataset_growth.farthest(tmp_path / "of a", tmp_path / "of a") == 0
    with pytest.raises(RuntimeError, match="other pictures"):
        dataset_growth.farthest(tmp_path / "of a", tmp_path / "of b")
    (tmp_path / "of b" / "part-000000.parquet").rename(tmp_path / "of b" / "c.parquet")
    with pytest.raises(RuntimeError, match="other files"):
        dataset_growth.farthest(tmp_path / "of a", tmp_path / "of b")


@pytest.fixture
def flaws(monkeypatch, dinov2):
    monkeypatch.setattr(anomaly, "load_dinov2", lambda *arguments, **options: dinov2)
    monkeypatch.setattr(anomaly, "TURNS", 1)


def test_detectors_are_measured_beside_the_model(flaws, tmp_path, capsys):
    out = tmp_path / "results.json"
    arguments = ["--categories", "mug", "--test", "2", "--threads", "1", "--out", str(out)]
    assert anomaly.main(arguments) == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    assert report["run"].keys() >= MACHINE | {"turns", "test_pictures", "neighbours"}
    names = [row["detector"] for row in report["rows"]]
    assert len(set(names)) == len(names) == 4
    for row in report["rows"]:
        assert row["category"] == "mug" and row["good_pictures"] == 40
        assert row["score_ms"] > 0 and row["pass_ms"] > 0
        assert row["pass"].endswith(" px")
    remembers = {row["detector"]: row["remembers_bytes"] for row in report["rows"]}
    bank = 40 * 16 * 16 * 48 * 4
    assert remembers["nearest patch, whole bank"] == bank
    assert remembers["nearest patch, 1% of the bank"] == pytest.approx(bank / 100, rel=0.01)
    assert capsys.readouterr().out.count("scores in") == 4


def test_the_table_says_what_was_never_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    assert table.main() == 0
    printed = capsys.readouterr().out
    assert "not measured yet: python -m benchmarks.anomaly" in printed
    assert "Faiss, 1,000,000 vectors" in printed and "07_guided_diffusion" in printed
    assert table.readme_rows() == [] and table.readme_lines() == []


def result(way, speed, **more):
    row = {"shape": "base", "way": way, "batch": 4, "cls_differs_by": 1e-6, "same": True}
    row |= {"patches_differ_by": 2e-6, "pictures_per_second": speed, "share_of_products": 0.875}
    return row | {"times_slower_than_ours": 4 / speed} | more


def test_the_table_and_the_lines_of_the_readme(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    run = {"date": "2026-01-02", "processor": "Abacus", "cores": 2, "threads": 2}
    report = {
        "run": run,
        "floors": {"base": {"products_seconds": 0.2, "decoding_seconds": 0.01}},
        "rows": [
            result("ours", 4.0),
            result("the loop", 2.0),
            result("ours in OpenVINO", 5.0),
            result("other", 3.2, same=False, cls_differs_by=0.5),
            {"shape": "base", "way": "gone", "missing": "not installed: gone"},
        ],
    }
    (tmp_path / "extraction.json").write_text(json.dumps(report), encoding="utf-8")
    steps = [{"n": 10, "seconds": 0.2, "peak_mb": 300}, {"n": 1000, "seconds": 21, "peak_mb": 1310}]
    (tmp_path / "growth.json").write_text(
        json.dumps({"run": run | {"size": 112}, "rows": steps}), encoding="utf-8"
    )
    flaw = {"category": "mug", "detector": "nearest", "remembers_bytes": 2_500_000}
    flaw |= {"score_ms": 1.5, "pass_ms": 20.25, "pass": "whole"}
    (tmp_path / "anomaly.json").write_text(
        json.dumps({"run": run, "rows": [flaw]}), encoding="utf-8"
    )
    assert table.main() == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "base ours 4.0 1.00 88% 2e-06" in lines
    assert "base other 3.2 1.25 88% 0.5: other numbers" in lines
    assert "base gone not installed: gone" in lines
    assert "base floor: matrix products 5.0" in lines
    assert "1,000 21.0 1310" in lines
    assert "nearest 1 2.50 1.50 20.2" in lines
    heads, (row,) = table.readme_heads(), table.readme_rows()
    assert dict(zip(heads, row, strict=True)) == {
        "model": "base",
        "pictures per second": "4.0",
        "of the floor": "88%",
        "the loop: time / ours": "2.00",
        "ours in OpenVINO: time / ours": "0.80",
        "other: time / ours": "1.25",
    }
    measured, other, faster, share, grown = table.readme_lines()
    assert "2026-01-02, Abacus, 2 cores, threads: 2" in measured and "within 2e-06" in measured
    assert "up to 0.5 from them: other." in other
    assert faster == "Faster than ours in PyTorch for every model: ours in OpenVINO."
    assert share == "Share of the floor of ours in OpenVINO: 88% (base)."
    assert "From 10 to 1,000 pictures at 112 px" in grown
    assert "20.0 and 21.0 ms" in grown and "1,310 MB" in grown


def test_the_passages_of_the_readme_are_made_from_the_committed_results():
    made = passages.passages()
    of_tables = {"sizing", "backends", "large", "guidance_widths", "datasets", "stores"}
    of_tables |= {"workshop"}
    assert made.keys() == {"bench"} | of_tables
    for name, text in made.items():
        committed = passages.path_of(name).read_text(encoding="utf-8")
        assert committed == f"{text}\n", "run `python -m benchmarks.passages`"


def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_the_record_tells_what_others_compute_from_what_the_benchmark_does(monkeypatch):
    others = {"busy": 100.0}

    monkeypatch.setattr(run_record, "busy_seconds", lambda: others["busy"] + time.process_time())
    began = run_record.Spent.now()
    burn(0.3)
    assert began.others_cores() == pytest.approx(0, abs=0.1)
    began = run_record.Spent.now()
    burn(0.3)
    others["busy"] += 2 * (time.perf_counter() - began.clock)
    assert began.others_cores() == pytest.approx(2, rel=0.2)


def test_a_passage_is_not_made_from_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    monkeypatch.setattr(passages, "RESULTS", tmp_path)
    assert passages.main() == 0
    assert list(tmp_path.iterdir()) == []


def test_the_passages_can_be_made_where_there_is_no_module_resource():
    """Which is so on Windows."""
    script = "import sys, psutil; sys.modules['resource'] = None; import benchmarks.passages"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_committed_results_are_complete():
    reports = {
        p.stem: json.loads(p.read_text(encoding="utf-8")) for p in run_record.RESULTS.glob("*.json")
    }
    # how good something is does not depend on the machine
    of_quality = re.compile("quality_|models$")
    reports = {name: report for name, report in reports.items() if not of_quality.match(name)}
    assert all(report["run"].keys() >= MACHINE for report in reports.values())
    if report := reports.get("extraction"):
        rows = [(row["shape"], row["way"]) for row in report["rows"]]
        assert rows == [(shape, way) for shape in extraction.SHAPES for way in extraction.WAYS]
        assert report["floors"].keys() == set(extraction.SHAPES)
    if report := reports.get("anomaly"):
        assert {row["category"] for row in report["rows"]} == set(anomaly.CATEGORIES)
