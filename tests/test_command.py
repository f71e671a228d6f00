"""The command `dinov2`: what it says where, what it writes, and how it fails."""

import argparse
import json
import logging
import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from processes import as_nobody

from dinov2_helpers import extract_features
from dinov2_helpers.cli import check, embed, main, session
from dinov2_helpers.cli.app import make_parser
from dinov2_helpers.cli.files import (
    check_free,
    find_pictures,
    output_folder,
    output_paths,
    whole_file,
)
from dinov2_helpers.cli.models import EMBEDDED_LICENCE, embedded_models, hub_weights
from dinov2_helpers.models.profiles import WEIGHTS
from dinov2_helpers.writing import write_whole
from tools.project import ROOT

HEAVY = {"torch", "transformers", "sklearn", "scipy", "skimage", "faiss", "matplotlib", "pyarrow"}


def parsers(parser=None, words=("dinov2",)):
    """Yield the words that lead to each parser, and the parser."""
    parser = parser or make_parser()
    yield words, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from parsers(inner, (*words, name))


ALL = {" ".join(words): words for words, _ in parsers()}


# what --help says


@pytest.mark.parametrize("command", ALL)
def test_help_fits_a_screen(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stopped:
        main([*ALL[command][1:], "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert stopped.value.code == 0
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("command", ALL)
def test_the_examples_of_help_can_be_typed(command, capsys):
    (parser,) = (parser for words, parser in parsers() if " ".join(words) == command)
    examples = re.findall(r"^  (dinov2 .*)$", parser.epilog or "", re.MULTILINE)
    assert examples
    for example in examples:
        words = shlex.split(re.sub(r" > [\w.]+$", "", example))
        assert " ".join(words).startswith(command)
        assert make_parser().parse_args(words[1:]).run


def test_help_loads_nothing_heavy():
    code = f"""
import sys
from dinov2_helpers.cli import main
for words in {[words[1:] for words in ALL.values()]}:
    try:
        main([*words, "--help"])
    except SystemExit:
        pass
print(sorted({HEAVY} & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stderr == "[]\n"
    assert done.stdout.count("usage: dinov2") == len(ALL)


@pytest.mark.parametrize(
    "arguments", [[], ["embed"], ["embed", "x"], ["embed", "x", "--out"], ["nothing"]]
)
def test_wrong_usage_has_a_status_of_its_own(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: dinov2" in capsys.readouterr().err


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.startswith("dinov2-in-practice ")


# embed


def test_features_are_those_of_the_library(cli, pictures, dinov2, tmp_path):
    status, out, _ = cli("embed", pictures, "--out", tmp_path / "new" / "f.npz")
    with np.load(tmp_path / "new" / "f.npz") as found:
        wanted = extract_features(dinov2, pictures)
        assert found["id"].tolist() == list(wanted.names) == ["a.png", "b c.png", "sea/d.png"]
        np.testing.assert_allclose(found["cls"], wanted.cls, atol=1e-5)
        assert found["size"].tolist() == wanted.sizes.tolist()
        assert found["model"] == dinov2.name
    assert status == 0
    assert out == f"3 pictures x 48 numbers: {tmp_path / 'new' / 'f.npz'}\n"


def test_exact_decodes_all_of_a_large_jpeg(cli, dinov2, tmp_path):
    Image.effect_mandelbrot((1300, 1100), (-2, -1, 1, 1), 30).save(tmp_path / "a.jpg")
    found = {}
    for exact in (False, True):
        words = ["embed", tmp_path / "a.jpg", "--size", "56", "--out", tmp_path / f"{exact}.npz"]
        assert cli(*words, *["--exact"][: int(exact)])[0] == 0
        with np.load(tmp_path / f"{exact}.npz") as file:
            found[exact] = file["cls"]
        wanted = extract_features(dinov2, tmp_path / "a.jpg", size=56, exact=exact)
        np.testing.assert_allclose(found[exact], wanted.cls, atol=1e-5)
    assert np.abs(found[True] - found[False]).max() > 1e-4


def test_parquet_has_the_same_numbers(cli, pictures, dinov2, tmp_path, monkeypatch):
    monkeypatch.setattr(embed, "CHUNK", 2)
    options = ["--pooling", "both", "--patches", "--size", "56"]
    assert cli("embed", pictures, *options, "--out", tmp_path / "f.parquet")[0] == 0
    assert cli("embed", pictures, *options, "--out", tmp_path / "f.npz")[0] == 0
    table, wanted = pq.read_table(tmp_path / "f.parquet"), np.load(tmp_path / "f.npz")
    assert pq.ParquetFile(tmp_path / "f.parquet").num_row_groups == 2
    assert table["id"].to_pylist() == wanted["id"].tolist()
    assert np.array(table["both"].to_pylist(), np.float32).tolist() == wanted["both"].tolist()
    assert wanted["patches"].shape == (3, 4, 4, 48)
    assert np.array(table["patches"].to_pylist(), np.float32).tolist() == wanted["patches"].tolist()
    assert table["width"].to_pylist() == [64, 72, 80]
    assert table.schema.metadata[b"model"] == dinov2.name.encode()
    both = extract_features(dinov2, pictures, size=56).pooled("both")
    np.testing.assert_allclose(wanted["both"], both, atol=1e-5)


def test_patches_of_several_grids_are_refused(cli, pictures, tmp_path, monkeypatch):
    for chunk, suffix in ((256, "npz"), (1, "npz"), (1, "parquet")):
        monkeypatch.setattr(embed, "CHUNK", chunk)
        out = tmp_path / f"f.{suffix}"
        status, _, err = cli("embed", pictures, "--patches", "--fit", "resize", "--out", out)
        assert status == 1
        assert "different numbers of patches" in err
        assert not list(tmp_path.glob("*f.*"))


def test_without_pyarrow_parquet_is_refused_in_a_sentence(cli, pictures, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    status, _, err = cli("embed", pictures, "--out", tmp_path / "f.parquet")
    assert status == 1
    assert err == (
        "dinov2: Parquet needs the package pyarrow: pip install pyarrow, or write .npz\n"
    )


def test_files_and_folders_go_by_their_names_as_given(cli, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, _ = cli("embed", "holiday/a.png", "holiday/sea", "holiday/a.png", "--out", "f.npz")
    assert status == 0
    assert np.load("f.npz")["id"].tolist() == ["holiday/a.png", "holiday/sea/d.png"]


# names


def test_any_name_can_be_embedded(cli, tmp_path, picture, monkeypatch):
    names = [
        "-rf.png",
        "a b.png",
        "狗.png",
        "new\nline.png",
        "$HOME [1].png",
        os.fsdecode(b"\xff.png"),
    ]
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(names):
        picture(64, 48, seed).save(name, "PNG")
    status, out, _ = cli("embed", "--out", "f.npz", "--json", "--", *names)
    assert status == 0
    assert json.loads(out)["pictures"] == 6
    said = ["-rf.png", "a b.png", "狗.png", r"new\nline.png", "$HOME [1].png", r"\xff.png"]
    assert np.load("f.npz")["id"].tolist() == said
    assert cli("embed", "--out", "f.parquet", "--", *names)[0] == 0
    assert pq.read_table("f.parquet")["id"].to_pylist() == said


def test_a_name_that_is_no_text_is_said_escaped(cli, tmp_path, picture):
    folder = tmp_path / os.fsdecode(b"\xfe")
    folder.mkdir()
    picture(64, 48).save(folder / "a.png")
    (folder / os.fsdecode(b"\xff.png")).write_bytes(b"no picture")
    status, out, err = cli("embed", folder, "--out", tmp_path / "f.npz", "--json")
    assert status == 0
    (skipped,) = json.loads(out)["skipped"]
    assert skipped["name"] == r"\xff.png"
    assert "skipped 1 of 2\n  \\xff.png: cannot be used" in err


def test_output_lies_beside_each_other_as_the_pictures_do(tmp_path):
    assert output_paths(["/a/b/c.jpg", "/a/d.e.jpg"], tmp_path, ".png") == [
        tmp_path / "b" / "c.png",
        tmp_path / "d.e.png",
    ]
    assert output_paths(["x/a.jpg", "x/a.png"], tmp_path, ".png") == [
        tmp_path / "a.jpg.png",
        tmp_path / "a.png.png",
    ]
    assert output_paths(["../a.jpg"], tmp_path, ".png") == [tmp_path / "a.png"]


# bad input


def test_a_broken_picture_is_left_out_counted_and_named(cli, pictures, tmp_path):
    (pictures / "b c.png").write_bytes(b"no picture")
    status, out, err = cli("embed", pictures, "--out", tmp_path / "f.npz")
    assert status == 0
    assert out.startswith("2 pictures")
    assert err.count("skipped") == 1
    assert "skipped 1 of 3\n  b c.png: cannot be used: " in err


def test_a_file_that_is_not_there_is_left_out_too(cli, pictures, tmp_path):
    status, _, err = cli("embed", pictures / "a.png", "nowhere.png", "--out", tmp_path / "f.npz")
    assert status == 0
    assert "skipped 1 of 2\n  nowhere.png: cannot be used: No such file or directory" in err


def test_a_name_that_is_too_long_is_left_out_too(cli, pictures, tmp_path, clip_folder):
    given = [pictures / "a.png", tmp_path / ("y" * 300)]
    for asked in (
        ["embed", *given, "--out", tmp_path / "f.npz"],
        ["index", *given, "--out", tmp_path / "store", "--clip", clip_folder],
    ):
        status, _, err = cli(*asked)
        assert status == 0, err
        assert "skipped 1 of 2" in err
        assert re.search(r"yyy: cannot be \w+: File name too long", err)


def test_what_may_not_be_looked_at_is_left_out_when_it_is_opened(pictures, monkeypatch):
    locked = pictures / "sea"
    locked.chmod(0)
    pictures.chmod(0o755)
    monkeypatch.chdir(pictures)  # nobody may go into the folders that it is in
    one = session.Session(as_json=False, quiet=False)

    def work():
        found = find_pictures(["a.png", "sea/d.png"], one)
        with pytest.raises(session.CommandError, match=r"d\.png: cannot be .*Permission denied"):
            find_pictures(["sea/d.png"], one)
        with pytest.raises(session.CommandError, match=r"cannot write .*Permission denied"):
            output_folder("sea/new")
        return list(found)

    assert as_nobody(work)[0] == ["a.png", "sea/d.png"]
    locked.chmod(0o755)


def failing(tmp_path):
    """Arguments of `embed`, and what is said."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("x", encoding="utf-8")
    (tmp_path / "broken.png").write_bytes(b"x")
    good = tmp_path / "good.png"
    Image.new("RGB", (64, 48)).save(good)
    out = ["--out", tmp_path / "f.npz"]
    return {
        "missing": ([tmp_path / "no", *out], "there is no such file or folder"),
        "several missing": ([tmp_path / "no", "none", *out], "(nor 1 more)"),
        "empty": ([tmp_path / "empty", *out], "no picture in it"),
        "no pictures": ([tmp_path / "notes", *out], "of a kind that is not read, .txt"),
        "none readable": ([tmp_path / "broken.png", *out], "none of the 1 pictures can be used"),
        "suffix": ([good, "--out", tmp_path / "f.csv"], "must end in .npz or .parquet"),
        "a folder": ([good, "--out", tmp_path / "x.npz"], "x.npz: it is a folder"),
        "in a file": ([good, "--out", good / "f.npz"], "cannot write"),
        "device": ([good, *out, "--device", "cuda:7"], "no such device"),
        "model": ([good, *out, "--model", tmp_path / "empty"], "cannot be loaded"),
    }


CASES = (
    "missing|several missing|empty|no pictures|none readable|suffix|a folder|in a file|device|model"
)


@pytest.mark.parametrize("case", CASES.split("|"))
def test_bad_input_is_one_sentence(cli, tmp_path, case):
    (tmp_path / "x.npz").mkdir()
    arguments, said = failing(tmp_path)[case]
    status, out, err = cli("embed", *arguments)
    assert status == 1
    assert out == ""
    assert said in err
    assert "Traceback" not in err
    assert err.count("\ndinov2: ") + err.startswith("dinov2: ") == 1
    assert not (tmp_path / "f.npz").exists()
    status, out, _ = cli("embed", *arguments, "--json")
    assert status == 1
    assert said in json.loads(out)["error"]


def test_what_is_there_is_replaced_if_that_is_said_and_only_by_a_whole_file(
    cli, pictures, tmp_path
):
    out = tmp_path / "f.npz"
    out.write_bytes(b"older")
    (tmp_path / "broken.png").write_bytes(b"x")
    status, _, err = cli("embed", pictures, "--out", out)
    assert (status, err) == (1, f"dinov2: {out} is there already: --force replaces it\n")
    assert cli("embed", tmp_path / "broken.png", "--out", out, "--force")[0] == 1
    assert out.read_bytes() == b"older"
    assert cli("embed", pictures, "--out", out, "--force")[0] == 0
    assert len(np.load(out)["cls"]) == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken.png", "f.npz", "holiday"]


def test_what_is_written_is_new_and_has_a_name_of_its_own(tmp_path):
    older, other, picture = (tmp_path / f"{name}.png" for name in ("older", "other", "picture"))
    for path in (older, other, picture):
        path.write_bytes(b"x")
    (tmp_path / "link.png").symlink_to(picture)
    for targets, force, said in (
        ([older, tmp_path / "new.png", other], False, r"older\.png is there already, and 1 more"),
        ([tmp_path / "link.png"], True, "is one of the pictures"),
        ([tmp_path], True, "it is a folder"),
        ([tmp_path / "a.png", tmp_path / "a.png"], True, r"two results .*a\.png"),
    ):
        with pytest.raises(session.CommandError, match=said):
            check_free(targets, force=force, pictures=[picture])
    check_free([older, tmp_path / "new.png"], force=True, pictures=[picture])


def test_a_file_may_have_the_longest_name_that_there_is(cli, pictures, tmp_path):
    name = "图" * 83 + ".x.png"  # 255 bytes
    (pictures / "a.png").rename(pictures / name)
    status, out, _ = cli("segment", pictures, "--method", "border", "--out", tmp_path / "masks")
    assert (status, out) == (0, f"3 masks in {tmp_path / 'masks'}\n")
    assert (tmp_path / "masks" / name).is_file()
    write_whole(tmp_path / name, b"whole")
    assert (tmp_path / name).read_bytes() == b"whole"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["holiday", "masks", name]


def test_a_folder_that_cannot_be_written_to_is_said_before_computing(tmp_path):
    tmp_path.chmod(0o755)

    def work():
        with whole_file(str(tmp_path / "f.npz")):
            raise AssertionError("it can be written")

    with pytest.raises(session.CommandError, match=r"cannot write .*Permission denied"):
        as_nobody(work)


# what is said where


def test_json_is_all_of_stdout(cli, pictures, tmp_path):
    (pictures / "b c.png").write_bytes(b"no picture")
    status, out, err = cli("embed", pictures, "--out", tmp_path / "f.npz", "--json")
    document = json.loads(out)
    assert status == 0
    assert document["command"] == "embed"
    assert document["pictures"] == 2
    assert document["dimensions"] == 48
    assert document["out"] == str(tmp_path / "f.npz")
    assert [one["name"] for one in document["skipped"]] == ["b c.png"]
    assert "48" in err  # the line on the model


def test_options_stand_before_or_behind_the_command(cli, pictures, tmp_path):
    before = cli("--json", "--quiet", "embed", pictures, "--out", tmp_path / "f.npz")
    behind = cli("embed", pictures, "--out", tmp_path / "f.npz", "--quiet", "--json", "--force")
    assert before == behind
    assert before[2] == ""


class Terminal:
    """A stderr that says it is a terminal."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return True


@pytest.mark.parametrize(("options", "shown"), [([], True), (["--quiet"], False)])
def test_progress_is_for_terminals(cli, pictures, tmp_path, monkeypatch, options, shown):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    cli("embed", pictures, "--out", tmp_path / "f.npz", *options)
    assert ("/3 [" in terminal.text) == shown  # of how many; the last may come too fast to be drawn


def test_there_is_no_progress_in_a_pipe(cli, pictures, tmp_path):
    err = cli("embed", pictures, "--out", tmp_path / "f.npz")[2]
    assert "\r" not in err
    assert "it/s" not in err


def test_messages_are_put_back_as_they_were(cli, pictures, tmp_path):
    logger = logging.getLogger(session.LOGGER)
    before = list(logger.handlers), logger.level, logger.propagate
    cli("embed", pictures, "--out", tmp_path / "f.npz", "--quiet")
    assert (list(logger.handlers), logger.level, logger.propagate) == before


def test_many_that_are_skipped_are_counted(capsys):
    from dinov2_helpers.extraction import Skipped

    one = session.Session(as_json=False, quiet=False)
    one.saw(40, [Skipped(i, f"{i}.png", "cannot be used") for i in range(30)])
    one.finish({})
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "skipped 30 of 40"
    assert lines[-1] == "  and 10 more, which --json lists"
    assert len(lines) == 2 + session.LISTED


# how it ends


def ending(monkeypatch, error):
    def fail(args):
        raise error

    monkeypatch.setattr(embed, "load_model", fail)


def test_an_interrupted_run_has_the_status_of_shells(cli, pictures, tmp_path, monkeypatch):
    ending(monkeypatch, KeyboardInterrupt())
    status, out, err = cli("embed", pictures, "--out", tmp_path / "f.npz")
    assert status == 130
    assert out == ""
    assert err == "\ndinov2: interrupted\n"
    assert [p.name for p in tmp_path.iterdir()] == ["holiday"]


def test_a_fault_of_the_program_shows_where_and_asks_for_a_report(
    cli, pictures, tmp_path, monkeypatch
):
    ending(monkeypatch, KeyError("oh"))
    status, out, err = cli("embed", pictures, "--out", tmp_path / "f.npz", "--json")
    assert status == 1
    assert json.loads(out)["error"] == "a fault of the program"
    assert "Traceback" in err
    assert "`dinov2 check`" in err


def test_a_package_that_is_missing_is_a_sentence(cli, pictures, tmp_path, monkeypatch):
    ending(monkeypatch, ModuleNotFoundError("No module named 'openvino'"))
    status, _, err = cli("embed", pictures, "--out", tmp_path / "f.npz")
    assert (status, err) == (1, "dinov2: No module named 'openvino'\n")


def test_a_name_that_the_program_imports_in_vain_is_its_fault(cli, pictures, tmp_path, monkeypatch):
    ending(monkeypatch, ImportError("cannot import name 'x'"))
    assert "a fault of the program" in cli("embed", pictures, "--out", tmp_path / "f.npz")[2]


def test_a_full_memory_is_a_sentence(cli, pictures, tmp_path, monkeypatch):
    ending(monkeypatch, MemoryError())
    status, _, err = cli("embed", pictures, "--out", tmp_path / "f.npz")
    assert (status, err) == (1, "dinov2: there is not enough memory\n")


COMMAND = [sys.executable, "-m", "dinov2_helpers.cli"]


def test_a_reader_who_has_enough_is_no_error():
    receive, send = os.pipe()
    os.close(receive)
    done = subprocess.run([*COMMAND, "models"], stdout=send, stderr=subprocess.PIPE, cwd=ROOT)
    os.close(send)
    assert done.stderr == b""
    assert done.returncode == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_full_disk_behind_stdout_is_said():
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*COMMAND, "models"], stdout=full, stderr=subprocess.PIPE, cwd=ROOT)
    assert done.stderr.endswith(b"No space left on device\n")
    assert b"Traceback" not in done.stderr
    assert done.returncode == 1


# models


def test_models_say_what_is_here(cli, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("DINOV2_PROFILE", raising=False)
    name = "facebook/dinov2-small"
    folder = tmp_path / "models--facebook--dinov2-small" / "snapshots" / WEIGHTS[name]["revision"]
    folder.mkdir(parents=True)
    assert hub_weights(name).state == "not here"
    (folder / "config.json").write_text("{}", encoding="utf-8")
    assert hub_weights(name).state == "partly cached"
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(88_000_000)
    status, out, _ = cli("models", model=False)
    assert status == 0
    assert re.search(r"^\* tiny +MIT +none +dinov2-tiny +\d+  embedded$", out, re.MULTILINE)
    small = r"^  small +Apache-2.0 +none +facebook/dinov2-small +88  cached$"
    assert re.search(small, out, re.MULTILINE)
    base = r"^  base +Apache-2.0 +none +facebook/dinov2-base +346  not here$"
    assert re.search(base, out, re.MULTILINE)
    gated = r"^  dinov3-small +DINOv3 License +form +facebook/dinov3-vits16\S+ +86  not here$"
    assert re.search(gated, out, re.MULTILINE)
    assert re.search(r"^form: sign in .* `hf auth login`", out, re.MULTILINE)
    assert re.search(r"^DINOv3 License: it allows use, ", out, re.MULTILINE)
    words = r"openai/clip-vit-base-patch32 +605  not here +small, base, dinov3-small, dinov3-base$"
    assert re.search(words, out, re.MULTILINE)
    assert re.search(r"stable-diffusion-v1-5 +4,265  not here +all but tiny$", out, re.MULTILINE)
    document = json.loads(cli("models", "--json", model=False)[1])
    assert {one["name"]: one["state"] for one in document["weights"]}[name] == "cached"
    assert set(WEIGHTS) < {one["name"] for one in document["weights"]}
    assert document["profiles"][0]["dinov2"] == "dinov2-tiny"
    gates = {
        one["gate"] for one in document["weights"] if one["name"].startswith("facebook/dinov3")
    }
    assert gates == {"form"}


def test_the_licence_of_the_embedded_models_is_that_of_their_cards():
    for name in embedded_models():
        card = (ROOT / "data" / "models" / name / "README.md").read_text(encoding="utf-8")
        assert f"license: {EMBEDDED_LICENCE.lower()}" in card


# check


@pytest.fixture
def no_computing(monkeypatch):
    """Check without loading a model, and without hashing the data, which others do."""
    light = {k: v for k, v in check.CHECKS.items() if k not in ("computing", "data")}
    monkeypatch.setattr(check, "CHECKS", light)
    monkeypatch.delenv("DINOV2_PROFILE", raising=False)


def test_check_has_a_line_for_each_requirement(cli, no_computing, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_ENDPOINT", "https://me:secret@example.org")
    status, out, _ = cli("check", model=False)
    assert status == 0
    lines = out.splitlines()
    assert all(re.match(r"(ok  |note) +\w+ ", line) for line in lines)
    assert {line.split()[1] for line in lines} >= {"Python", "needs", "threads", "memory", "disk"}
    assert "HF_TOKEN is set" in out
    assert "secret" not in out
    document = json.loads(cli("check", "--json", model=False)[1])
    assert document["problems"] == []
    assert len(document["checks"]) == len(lines)


def test_check_computes_and_reads_the_data(capsys):
    assert check.check_computing().state == "ok"
    assert check.check_data().state == "ok"


def test_check_ends_with_1_and_the_remedy_where_something_is_missing(
    cli, no_computing, monkeypatch, tmp_path
):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("DINOV2_PROFILE", "small")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    needs = ["transformers>=99", "numpy", "no-such-thing; extra == 'test'", "nothing-of-the-kind"]
    monkeypatch.setattr(check, "requires", lambda name: needs)
    monkeypatch.setattr(check, "_memory", lambda: (1e8, 4e9))
    status, out, err = cli("check", model=False)
    assert status == 1
    assert err.endswith("dinov2: problems with needs, memory, models\n")
    assert "pip install 'transformers>=99' 'nothing-of-the-kind'" in out
    assert "unset HF_HUB_OFFLINE" in out
    assert "close other programs" in out


def test_a_check_that_fails_is_a_problem_and_the_others_go_on(cli, no_computing, monkeypatch):
    monkeypatch.setenv("DINOV2_PROFILE", "huge")
    monkeypatch.setenv("DINOV2_THREADS", "many")
    status, out, _ = cli("check", model=False)
    assert status == 1
    assert "no profile" in out
    assert "DINOV2_THREADS is 'many'" in out
    assert re.search(r"^ok +GPU", out, re.MULTILINE)


def test_changed_data_are_a_problem(tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "a.bin").write_bytes(b"version https://git-lfs")
    (tmp_path / "MANIFEST.sha256").write_text(
        f"{'0' * 64}  models/a.bin\n{'1' * 64}  b  c.png\n", encoding="utf-8"
    )
    monkeypatch.setenv("DINOV2_DATA", str(tmp_path))
    found = check.check_data()
    assert found.state == "problem"
    assert "changed: models/a.bin" in found.text


def test_the_memory_of_a_container_counts(tmp_path):
    (tmp_path / "memory.max").write_text("1000000\n", encoding="utf-8")
    (tmp_path / "memory.current").write_text("400000\n", encoding="utf-8")
    assert check._memory(tmp_path) == (600000, 1000000)
    (tmp_path / "memory.max").write_text("max\n", encoding="utf-8")
    assert check._memory(tmp_path)[1] > 1e8
