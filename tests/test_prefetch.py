"""Downloading a profile's models once; here the hub's cache has them already."""

import hashlib
import shutil

import pytest

from dinov2_helpers import ModelError
from dinov2_helpers.models import PROFILES, WEIGHTS
from tools import prefetch as tool
from tools.prefetch import main, prefetch


@pytest.fixture
def cache(dinov2_folder, clip_folder, diffusion_folder, tmp_path, monkeypatch):
    """The hub's cache with random models under the names of the profile "small", offline."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    small = PROFILES["small"]
    folders = {
        small.dinov2: dinov2_folder,
        small.clip: clip_folder,
        small.diffusion: diffusion_folder,
    }
    for repo, folder in folders.items():
        home = tmp_path / f"models--{repo.replace('/', '--')}"
        shutil.copytree(folder, home / "snapshots" / WEIGHTS[repo]["revision"])
    return tmp_path


def test_every_file_is_listed_with_size_and_hash(cache):
    *lines, total = prefetch("small")
    assert total.endswith(f"MB in {cache}")
    files = {path for path in cache.rglob("*") if path.is_file()}
    assert len(lines) == len(files)
    named = {line.split()[-1]: line.split()[0] for line in lines}
    for path in files:
        home, _, _, *parts = path.relative_to(cache).parts
        name = "/".join([home.removeprefix("models--").replace("--", "/", 1), *parts])
        assert named[name] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (
        "stable-diffusion-v1-5/stable-diffusion-v1-5/unet/diffusion_pytorch_model.safetensors"
        in named
    )


def test_what_cannot_be_had_is_an_error_that_names_it(cache):
    with pytest.raises(ModelError, match=r"No DINOv2 'base'.*once with network"):
        prefetch("base")


def test_what_comes_is_said_before_it_comes(monkeypatch, capsys):
    done = []
    monkeypatch.setattr(tool.course, "show_messages", lambda: done.append("messages are shown"))
    monkeypatch.setattr(tool, "prefetch", lambda profile: [*done, profile])
    main(["small"])
    assert capsys.readouterr().out == "messages are shown\nsmall\n"


def test_nothing_is_to_be_downloaded_for_tiny(capsys):
    with pytest.raises(SystemExit):
        main(["tiny"])
    assert "choose from" in capsys.readouterr().err
