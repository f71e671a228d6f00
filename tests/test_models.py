import json
import re
import shutil
import subprocess
import sys
from functools import partial
from importlib.metadata import version

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)
from safetensors.torch import load_file, save_file

import dinov2_helpers
from dinov2_helpers import ModelError, load_dinov2
from dinov2_helpers.models import PROFILES, WEIGHTS, about, current_profile
from dinov2_helpers.models.load import quiet


@pytest.fixture
def copy(dinov2_folder, tmp_path):
    """A copy of the model folder to damage."""
    return shutil.copytree(dinov2_folder, tmp_path / "mine")


def edit(folder, name="config.json", **values):
    path = folder / name
    path.write_text(
        json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8"
    )


preprocess = partial(edit, name="preprocessor_config.json")


def test_import_is_light():
    heavy = "{'torch', 'transformers', 'matplotlib', 'sklearn', 'scipy', 'skimage', 'diffusers'}"
    code = f"import dinov2_helpers, sys; print({heavy} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "set()", result.stderr


def test_public_names_are_documented():
    for name in dinov2_helpers.__all__:
        assert getattr(dinov2_helpers, name).__doc__


def test_about_names_profile_device_and_versions(monkeypatch):
    monkeypatch.setenv("DINOV2_PROFILE", "base")
    versions = re.escape(f"torch {version('torch')}, transformers ")
    assert re.match(rf"Profile base on (cpu|cuda|mps); Python 3\..*, {versions}", about())


def test_profiles(monkeypatch):
    assert PROFILES["base-with-registers"].dinov2 == "facebook/dinov2-with-registers-base"
    for name, profile in PROFILES.items():
        assert profile.name == name
    assert list(PROFILES)[::4] == ["tiny", "giant", "giant-with-registers", "siglip2-base"]
    assert list(PROFILES)[9:12] == ["dinov3-small", "dinov3-base", "dinov3-large"]
    assert PROFILES["siglip2-base"].clip == PROFILES["siglip2-base"].dinov2
    of_hub = [profile for name, profile in PROFILES.items() if name != "tiny"]
    assert WEIGHTS.keys() == {model for p in of_hub for model in (p.dinov2, p.clip, p.diffusion)}
    revisions = {weights["revision"] for weights in WEIGHTS.values()}
    assert all(re.fullmatch(r"[0-9a-f]{40}", revision) for revision in revisions)
    assert len(revisions) == len(WEIGHTS) == 15
    monkeypatch.delenv("DINOV2_PROFILE", raising=False)
    assert current_profile() is PROFILES["tiny"]
    monkeypatch.setenv("DINOV2_PROFILE", "huge")
    with pytest.raises(ModelError, match=r"huge.*tiny.*small"):
        load_dinov2()


def test_facts(dinov2, dinov2_with_registers, dinov2_folder, capsys):
    assert (dinov2.patch_size, dinov2.dim, dinov2.n_layers, dinov2.n_heads) == (14, 48, 3, 4)
    assert (dinov2.n_registers, dinov2_with_registers.n_registers) == (0, 4)
    assert dinov2.image_size == 126
    assert dinov2.dtype == next(dinov2.model.parameters()).dtype == torch.float32
    assert not dinov2.model.training
    load_dinov2(str(dinov2_folder), device="cpu")
    assert capsys.readouterr() == (f"{dinov2!r}\n", "")
    assert "plain: 0.1 M parameters, 3 layers x 48" in repr(dinov2)


def test_tiny_is_read_from_the_sample_data(dinov2_folder, tmp_path, monkeypatch):
    shutil.copytree(dinov2_folder, tmp_path / "models" / "dinov2-tiny")
    monkeypatch.setenv("DINOV2_DATA", str(tmp_path))
    monkeypatch.setenv("DINOV2_PROFILE", "tiny")
    assert load_dinov2(device="cpu").name == "dinov2-tiny"


def test_fp16_weights_load_as_float32(copy):
    path = copy / "model.safetensors"
    save_file({k: v.half() for k, v in load_file(path).items()}, path, {"format": "pt"})
    edit(copy, dtype="float16")
    assert load_dinov2(copy, device="cpu").dtype == torch.float32
    assert load_dinov2(copy, device="cpu", dtype="float16").dtype == torch.float16


@pytest.mark.parametrize("name", ["nobody/no-such-model", "facebook/dinov2-small", "./no/such/x"])
def test_without_network(name, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError) as error:
        load_dinov2(name)
    assert name in str(error.value)
    assert "DINOV2_PROFILE=tiny" in str(error.value)
    assert "once with network" in str(error.value)


def test_whatever_the_hub_client_raises_becomes_one_message(tmp_path, monkeypatch):
    class ConnectError(Exception):
        """The hub's client has its own HTTP library, whose errors are no OSError."""

    def fail(*args, **kwargs):
        raise ConnectError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", fail)
    with pytest.raises(ModelError, match="Name or service not known") as error:
        load_dinov2("small")
    assert error.value.__suppress_context__


def test_hub_cache_is_enough(dinov2_folder, tmp_path, monkeypatch):
    """A hub name resolves by profile to the pinned commit in the cache, without network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    snapshots = tmp_path / "models--facebook--dinov2-small" / "snapshots"
    cached = shutil.copytree(
        dinov2_folder, snapshots / WEIGHTS["facebook/dinov2-small"]["revision"]
    )
    assert load_dinov2("small", device="cpu").name == "facebook/dinov2-small"
    assert load_dinov2("facebook/dinov2-small", device="cpu").dim == 48
    # other programs leave snapshots with nothing but the weights
    (cached / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match="once with network"):
        load_dinov2("small", device="cpu")


def test_a_profile_that_is_not_here_is_not_said_to_be_none(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name, repo in (("dinov3-small", "facebook/dinov3"), ("siglip2-base", "google/siglip2")):
        with pytest.raises(ModelError, match=f"No DINOv2 '{name}': {repo}.* is not whole") as error:
            load_dinov2(name)
        assert "no profile" not in str(error.value)
    with pytest.raises(ModelError, match="'~nobody at all': no folder, no profile"):
        load_dinov2("~nobody at all")


def drop_weights(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["layernorm.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: edit(f, model_type="vit"), "mine is not a DINOv2: its model_type is 'vit'"),
        (lambda f: (f / "config.json").unlink(), "No such file.*config.json"),
        (lambda f: (f / "config.json").write_text("{", encoding="utf-8"), "cannot be loaded"),
        (lambda f: (f / "config.json").write_text("[]", encoding="utf-8"), "holds a list"),
        (lambda f: edit(f, model_type=["dinov2"]), "its model_type is .'dinov2'"),
        (lambda f: edit(f, patch_size=0), "cannot be loaded"),
        (
            lambda f: (f / "preprocessor_config.json").write_text("null", encoding="utf-8"),
            "holds a NoneType",
        ),
        (lambda f: preprocess(f, image_processor_type=7), "cannot be loaded"),
        (lambda f: (f / "model.safetensors").unlink(), "no file named model.safetensors"),
        (lambda f: (f / "preprocessor_config.json").unlink(), "containing a preprocessor_config"),
        (lambda f: (f / "model.safetensors").write_bytes(b"half"), "cannot be loaded"),
        (lambda f: edit(f, hidden_size=96), "cannot be loaded"),
        (
            lambda f: preprocess(f, size={"longest_edge": 56}),
            "says size=.*longest_edge.*cannot be followed here",
        ),
        (drop_weights, "lacks weights: .*layernorm.weight"),
    ],
)
def test_damaged_folders(copy, damage, message):
    damage(copy)
    with pytest.raises(ModelError, match=message) as error:
        load_dinov2(copy, device="cpu")
    assert "mine" in str(error.value)


def test_code_in_a_folder_is_not_run(copy):
    edit(copy, auto_map={"AutoModel": "evil.Model", "AutoConfig": "evil.Config"})
    (copy / "evil.py").write_text("raise SystemExit('executed')", encoding="utf-8")
    preprocess(copy, auto_map={"AutoImageProcessor": "evil.Processor"})
    assert load_dinov2(copy, device="cpu").dim == 48


@pytest.fixture
def download(dinov2_folder, tmp_path, monkeypatch):
    """A hub that has one model, and what was shown at the moment of its download."""
    shown = []
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: None)

    def snapshot_download(repo, local_files_only=False, **wanted):
        if local_files_only:
            raise LocalEntryNotFoundError("not here yet")
        shown.append(not are_progress_bars_disabled())
        return str(dinov2_folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return shown


def test_a_download_says_what_comes_and_shows_its_progress(download, capsys):
    load_dinov2(device="cpu")  # of another model, before
    capsys.readouterr()
    load_dinov2("small", device="cpu")
    said = capsys.readouterr().out.splitlines()
    assert download == [True]
    assert re.match(r"Downloading facebook/dinov2-small, 88 MB, from https://\S+: once", said[0])
    assert len(said) == 2


def test_bars_are_back_when_several_threads_have_read():
    enable_progress_bars()
    first, second = quiet(), quiet()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert are_progress_bars_disabled()  # the second still reads
    second.__exit__(None, None, None)
    assert not are_progress_bars_disabled()


def test_bars_that_a_reader_has_switched_off_stay_off(download, capfd):
    disable_progress_bars()
    try:
        load_dinov2("small", device="cpu")
        assert download == [False] and are_progress_bars_disabled()
    finally:
        enable_progress_bars()
    assert capfd.readouterr().err == ""  # reading the weights shows none at all
