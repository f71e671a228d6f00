"""Pictures packed for a machine that cannot render, and the script that trains there."""

import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

from dinov2_helpers import load_clip, load_dinov2
from dinov2_helpers.samples import data_dir
from tools.project import ROOT
from training.clip.material import Pairs
from training.dinov2 import augment, config
from training.dinov2.train import Training
from training.pack import in_turns, pack, unpack
from training.release import release


def facts(name, colour, framing):
    toy = {"class": name, "colour": colour, "flying": False, "x": 40.0}
    return {"surface": "grass", "framing": framing, "objects": [toy]}


@pytest.fixture
def material(tmp_path):
    """Two shards of toys in two views, and one of scenes, with smooth pictures."""
    cells = [(name, colour) for name in ("dog", "car", "cat") for colour in ("red", "blue")]
    line = np.linspace(0, 255, 64, dtype=np.uint8)
    views = [[facts(*cell, framing) for framing in ("portrait", "wide")] for cell in cells]
    several = {**facts("cat", "red", "wide"), "objects": [
        *facts("cat", "red", "wide")["objects"], *facts("car", "blue", "wide")["objects"]
    ]}  # fmt: skip
    rows = {"toys/00000": views, "toys/00001": views, "multi/00000": [[several]] * 6}
    for number, (name, shown) in enumerate(rows.items()):
        shape = (6, 2) if name.startswith("toys") else (6,)
        pictures = np.broadcast_to(line[:, None, None], (*shape, 64, 64, 3)) // (number + 1)
        shard = tmp_path / "pairs" / f"{name}.npy"
        shard.parent.mkdir(parents=True, exist_ok=True)
        np.save(shard, pictures)
        lines = [{"views": one} if len(one) > 1 else one[0] for one in shown]
        shard.with_suffix(".jsonl").write_text(
            "".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8"
        )
    return tmp_path / "pairs"


def test_packed_pictures_come_back_with_their_facts(material, tmp_path):
    assert pack(material, tmp_path / "packed", megabytes=1, side=48) == 30
    assert unpack(tmp_path / "packed", tmp_path / "again") == 30
    before, after = (Pairs(tmp_path / name, torch.device("cpu")) for name in ("pairs", "again"))
    assert after.facts == before.facts
    apart = before.pictures.float() - after.pictures.float()
    assert apart.abs().mean() < 4
    again = np.load(tmp_path / "again" / "toys" / "00001.npy")
    assert again.shape == (6, 2, 48, 48, 3) and again.dtype == np.uint8


def test_a_pack_stops_at_its_size_and_has_both_kinds_early(material, tmp_path):
    assert [path.parent.name for path in in_turns(material)] == ["toys", "multi", "toys"]
    pack(material, tmp_path / "whole", megabytes=1)
    sizes = {path.relative_to(tmp_path / "whole"): path.stat().st_size
             for path in (tmp_path / "whole").glob("*/*.zip")}  # fmt: skip
    enough = (sum(sizes.values()) - 1) / 1e6
    pack(material, tmp_path / "part", megabytes=enough)
    kept = list((tmp_path / "part").glob("*/*.zip"))
    assert len(kept) == 2 and sum(path.stat().st_size for path in kept) < enough * 1e6
    for path in kept:
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None


def test_nothing_to_pack_or_unpack_is_said(tmp_path):
    with pytest.raises(FileExistsError, match="delete it"):
        pack(tmp_path, tmp_path, megabytes=1)
    with pytest.raises(FileNotFoundError, match=r"training\.world\.material"):
        pack(tmp_path, tmp_path / "packed", megabytes=1)
    with pytest.raises(FileNotFoundError, match=r"training\.pack"):
        unpack(tmp_path, tmp_path / "pairs")


def test_half_of_the_crops_get_another_hue_and_keep_their_brightness():
    still = augment.ColourJitter(
        brightness=0, contrast=0, saturation=0, hue=0, grey=0, blur=0, recolour=0.5
    )
    crops = torch.tensor([0.7, 0.4, 0.4]).view(1, 3, 1, 1).expand(400, 3, 8, 8)
    turned = augment.jitter_colours(crops, still, torch.Generator().manual_seed(0))
    changed = (turned - crops).abs().amax((1, 2, 3)) > 0.01
    assert 0.4 < changed.float().mean() < 0.6
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    torch.testing.assert_close((turned * weights).sum(1), (crops * weights).sum(1))
    assert (turned.argmax(1) == 2).any()  # some are blue now


@pytest.mark.computes
def test_a_training_of_dinov2_starts_from_a_model(material, tmp_path):
    recipe = config.RECOLOUR
    training = Training(recipe, material, tmp_path / "run", "cpu")
    training.start_from(data_dir() / "models" / "dinov2-tiny")
    model = load_dinov2("tiny", device="cpu")
    wanted = model.model.state_dict()
    for network in (training.student, training.teacher):
        for name, weights in network.backbone.state_dict().items():
            torch.testing.assert_close(weights, wanted[name])


def test_a_run_without_a_model_cannot_be_released(tmp_path):
    with pytest.raises(FileNotFoundError, match="not done yet"):
        release(tmp_path, tmp_path / "models" / "clip-tiny")


def test_a_released_model_has_its_log_and_notes(tmp_path):
    run, folder = tmp_path / "run", tmp_path / "models" / "clip-tiny"
    (run / "model").mkdir(parents=True)
    (run / "model" / "config.json").write_text("{}", encoding="utf-8")
    (run / "log.jsonl").write_text('{"step": 1}\n', encoding="utf-8")
    release(run, folder)
    assert "training.clip.train" in (folder / "run_notes.md").read_text(encoding="utf-8")
    (run / "run_notes.md").write_text("It was stopped twice.", encoding="utf-8")
    release(run, folder)
    names = ["config.json", "run_notes.md", "training_log.jsonl"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert (folder / "run_notes.md").read_text(encoding="utf-8") == "It was stopped twice."


@pytest.mark.weekly
@pytest.mark.skipif(sys.platform == "win32", reason="a script for bash")
def test_the_script_for_a_gpu_brings_three_models_home(material, tmp_path):
    pack(material, tmp_path / "packed", megabytes=1)
    settings = {"PACKED": tmp_path / "packed", "OUT": tmp_path / "out", "WORK": tmp_path / "work",
                "PYTHON": sys.executable, "RECIPE": "trial", "PYTHONPATH": ROOT}  # fmt: skip
    done = subprocess.run(
        ["bash", "training/gpu.sh"],
        cwd=ROOT,
        env=os.environ | {name: str(value) for name, value in settings.items()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    out = tmp_path / "out"
    assert load_dinov2(out / "dinov2" / "model", device="cpu").dim == 48
    assert load_clip(out / "clip" / "model", device="cpu").dim == 128
    assert (out / "diffusion" / "model" / "unet" / "config.json").exists()
    assert all((out / name / "log.jsonl").exists() for name in ("dinov2", "clip", "diffusion"))
    assert max(path.stat().st_size for path in out.rglob("*")) < 16e6
