"""PyTorch, oneDNN and OpenVINO: the same features, of the weights as they are, and no traces."""

import copy
import dataclasses
import gc
import sys
import threading
import weakref

import numpy as np
import pytest
import torch

from dinov2_helpers import extract_features, load_clip, load_dinov2, stream_features
from dinov2_helpers.models import encoder, onednn
from dinov2_helpers.models import openvino as openvino_backend

pytestmark = pytest.mark.computes
CLOSE = 1e-5
HAS_ONEDNN = onednn.available()
needs_onednn = pytest.mark.skipif(not HAS_ONEDNN, reason="this PyTorch has no oneDNN")


def differ(one, other):
    return np.abs(np.asarray(one) - np.asarray(other)).max()


def cosine(one, other):
    return float(one.ravel() @ other.ravel() / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.fixture(scope="module")
def pictures(picture):
    sizes = [(70, 60), (56, 90), (64, 64)]
    return [picture(*sizes[i % 3], seed=i) for i in range(5)]


@pytest.fixture(params=["torch", "onednn", "openvino"])
def backend(request):
    if request.param == "onednn" and not HAS_ONEDNN:
        pytest.skip("this PyTorch has no oneDNN")
    if request.param == "openvino":
        pytest.importorskip("openvino")
    return request.param


@pytest.fixture
def model(dinov2_folder, backend):
    return load_dinov2(dinov2_folder, device="cpu", backend=backend)


def plain(model, pictures):
    """CLS of the model of transformers as it is now."""
    pixels = [model.processor(one, return_tensors="pt")["pixel_values"] for one in pictures]
    with torch.inference_mode():
        return model.model(torch.cat(pixels)).pooler_output.numpy()


def test_backends_agree(registers_folder, pictures, backend):
    expected = extract_features(
        load_dinov2(registers_folder, device="cpu", backend="torch"), pictures
    )
    found = extract_features(
        load_dinov2(registers_folder, device="cpu", backend=backend), pictures, batch_size=2
    )
    assert found.cls.dtype == found.patches.dtype == np.float32
    assert differ(found.cls, expected.cls) < CLOSE
    assert differ(found.patches, expected.patches) < CLOSE


@needs_onednn
@pytest.mark.parametrize(
    ("capability", "name"),
    [("AVX2", "torch"), ("AVX512", "onednn"), ("DEFAULT", "torch"), ("SVE256", "torch")],
)
def test_auto_is_the_fast_one(dinov2_folder, clip_folder, monkeypatch, capability, name):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert load_clip(clip_folder, device="cpu").encoder.name == name
    assert load_dinov2(dinov2_folder, device="cpu").encoder.name == name
    assert load_dinov2(dinov2_folder, device="cpu", dtype="bfloat16").encoder.name == "torch"


class OfHost:
    """Pixels in memory that says how they were copied."""

    def pin_memory(self):
        return OfPinned()

    def to(self, device, non_blocking=False):
        return device.type, "pageable", non_blocking


class OfPinned:
    def to(self, device, non_blocking=False):
        return device.type, "pinned", non_blocking


def test_pixels_go_to_a_gpu_from_pinned_memory():
    gpu = encoder._on_device(OfHost(), torch.device("cuda", 1))
    assert gpu == ("cuda", "pinned", True)
    for kind in ("cpu", "mps"):
        assert encoder._on_device(OfHost(), torch.device(kind)) == (kind, "pageable", False)


def test_backends_that_do_not_go_together(dinov2_folder, backend):
    with pytest.raises(ValueError, match=r"'tensorrt' is none of .*'openvino'"):
        load_dinov2(dinov2_folder, backend="tensorrt")
    if backend == "torch":
        return
    with pytest.raises(ValueError, match=f"backend='{backend}' computes on a CPU in float32"):
        load_dinov2(dinov2_folder, device="cpu", dtype="bfloat16", backend=backend)


def test_another_network_in_its_place_is_what_computes(model, pictures):
    """Notebook 06 cuts a model off after a block so."""
    short = copy.deepcopy(model.model)
    short.encoder.layer = short.encoder.layer[:2]
    cut = dataclasses.replace(model, model=short, n_layers=2)
    found = extract_features(cut, pictures).cls
    assert (
        differ(found, plain(cut, pictures)) < CLOSE < 0.01 < differ(found, plain(model, pictures))
    )


# --- Weights that change. Each way is one that code of readers has.


def step(model, **options):
    """Three steps of an optimiser on any loss."""
    optimiser = torch.optim.AdamW(model.model.parameters(), lr=0.05, **options)
    for _ in range(3):
        optimiser.zero_grad()
        model.model(torch.ones(1, 3, 28, 28)).last_hidden_state.square().sum().backward()
        optimiser.step()


def scale_data(model):
    """As DINO's own moving average of a teacher does."""
    for parameter in model.model.parameters():
        parameter.data.mul_(1.5).add_(0.01)


def write_through_numpy(model):
    for parameter in model.model.parameters():
        parameter.detach().numpy()[...] *= 1.5


CHANGES = {
    "fused": lambda model: step(model, fused=True),
    "foreach": lambda model: step(model, foreach=True),
    "data": scale_data,
    "numpy": write_through_numpy,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_features_are_those_of_the_weights_as_they_are(model, pictures, change):
    before = extract_features(model, pictures).cls
    change(model)
    after = extract_features(model, pictures).cls
    assert differ(after, plain(model, pictures)) < 1e-4
    assert cosine(before, after) < 0.999


def test_a_stream_computes_with_the_weights_of_each_chunk(model, pictures):
    chunks = []
    for found in stream_features(model, pictures[:4], chunk=2):
        expected = plain(model, pictures[2 * len(chunks) :][:2])
        assert differ(found.cls, expected) < 1e-4
        chunks.append(found.cls)
        scale_data(model)
    assert len(chunks) == 2


def test_a_cache_knows_the_weights(model, pictures, tmp_path):
    before = extract_features(model, pictures, cache=tmp_path).cls
    scale_data(model)
    after = extract_features(model, pictures, cache=tmp_path).cls
    assert differ(before, after) > 0.01


# --- What a reader has put into a model


def test_a_forward_of_the_readers_own_runs(dinov2_folder, pictures):
    model = load_dinov2(dinov2_folder, device="cpu")
    before = extract_features(model, pictures).cls
    layer = model.model.encoder.layer[0].attention.q_proj
    layer.forward = lambda x: 2 * torch.nn.Linear.forward(layer, x)
    own = layer.forward
    after = extract_features(model, pictures).cls
    assert differ(after, plain(model, pictures)) < CLOSE < 0.001 < differ(before, after)
    assert layer.forward is own


@pytest.mark.parametrize("watched", ["fc1", "activation_fn", "fc2"])
def test_hooks_see_what_they_would_see(dinov2_folder, pictures, watched):
    model = load_dinov2(dinov2_folder, device="cpu")
    module = getattr(model.model.encoder.layer[1].mlp, watched)
    seen = []
    handle = module.register_forward_hook(lambda _m, _i, output: seen.append(output.clone()))
    with handle:
        extract_features(model, pictures[0])
        plain(model, pictures[:1])
    assert len(seen) == 2
    assert differ(seen[0], seen[1]) < CLOSE


@needs_onednn
def test_nothing_stays_after_a_call(dinov2_folder, pictures, monkeypatch):
    model = load_dinov2(dinov2_folder, device="cpu", backend="onednn")
    laid_out = []
    lay_out = onednn.lay_out

    def spy(modules):
        weights = lay_out(modules)
        laid_out.extend(weakref.ref(weight) for weight in weights.values())
        return weights

    monkeypatch.setattr(onednn, "lay_out", spy)
    extract_features(model, pictures)
    gc.collect()
    n_linear = sum(isinstance(m, torch.nn.Linear) for m in model.model.modules())
    assert len(laid_out) == n_linear
    assert not any(weight() is not None for weight in laid_out)
    assert not any("forward" in vars(module) for module in model.model.modules())
    assert copy.deepcopy(model.model).state_dict().keys() == model.model.state_dict().keys()


@needs_onednn
def test_training_beside_a_call_has_its_gradients(dinov2_folder, pictures):
    """oneDNN's operator has none: another thread must not be given it."""
    model = load_dinov2(dinov2_folder, device="cpu", backend="onednn")
    inside, trained = threading.Event(), threading.Event()

    def wait(*_):
        inside.set()
        assert trained.wait(10)

    with model.model.embeddings.register_forward_pre_hook(wait):
        worker = threading.Thread(target=extract_features, args=(model, pictures[0]))
        worker.start()
        assert inside.wait(10)
        layer = model.model.encoder.layer[0].mlp
        layer(torch.ones(1, 4, 48)).sum().backward()
        trained.set()
        worker.join()
    assert layer.fc1.weight.grad is not None


@needs_onednn
def test_clip_lays_out_what_sees_pictures_only(clip):
    clip = dataclasses.replace(clip, backend="onednn")
    with clip.encoder.session(onednn.Inside(), 1):
        redirected = [name for name, m in clip.model.named_modules() if "forward" in vars(m)]
    assert redirected
    assert not any("text" in name for name in redirected)


def test_numbers_that_are_not_finite_are_no_features(model, pictures, capsys):
    with torch.no_grad():
        model.model.layernorm.bias[0] = float("nan")
    with pytest.raises(ValueError, match="NaN or infinite"):
        extract_features(model, pictures)


def test_one_picture_that_overflows_is_left_out(dinov2_folder, pictures):
    model = load_dinov2(dinov2_folder, device="cpu")

    def overflow(_module, _inputs, output):
        output[1, 3, 0] = float("inf")

    with model.model.layernorm.register_forward_hook(overflow):
        found = extract_features(model, pictures[:3], batch_size=3)
    assert found.index.tolist() == [0, 2]
    [skipped] = found.skipped
    assert skipped.index == 1 and "NaN or infinite" in skipped.reason


# --- Two calls at once


def test_overlapping_calls_leave_the_threads_as_they_were(dinov2_folder, picture):
    model = load_dinov2(dinov2_folder, device="cpu")
    first, second = threading.Event(), threading.Event()
    numbers = {}

    def wait(*_):
        if not first.is_set():
            first.set()
            assert second.wait(10)

    def call():
        extract_features(model, [picture(20, 20, seed=i) for i in range(4)], batch_size=1)
        numbers[threading.current_thread().name] = torch.get_num_threads()

    torch.set_num_threads(2)
    try:
        with model.model.register_forward_pre_hook(wait):
            a = threading.Thread(target=call, name="a")
            a.start()
            assert first.wait(10)
            call()  # begins while the other computes
            fresh = threading.Thread(
                target=lambda: numbers.update(meanwhile=torch.get_num_threads())
            )
            fresh.start()
            fresh.join()
            second.set()
            a.join()
        fresh = threading.Thread(target=lambda: numbers.update(after=torch.get_num_threads()))
        fresh.start()
        fresh.join()
        numbers["caller"] = torch.get_num_threads()
    finally:
        torch.set_num_threads(1)
    assert set(numbers.values()) == {2} and len(numbers) == 5


# --- OpenVINO alone


def test_openvino_takes_few_shapes(dinov2_folder, picture):
    pytest.importorskip("openvino")
    model = load_dinov2(dinov2_folder, backend="openvino")
    shapes = [picture(14 * (1 + i), 14) for i in range(openvino_backend.MOST_SHAPES + 1)]
    found = extract_features(model, shapes[:-1], fit="resize")
    expected = extract_features(
        load_dinov2(dinov2_folder, device="cpu", backend="torch"), shapes[:-1], fit="resize"
    )
    assert differ(found.cls, expected.cls) < CLOSE
    with pytest.raises(ValueError, match="give fit='crop'"):
        extract_features(model, shapes[-1], fit="resize")


def test_openvino_shows_nothing_of_what_is_inside(dinov2_folder, picture):
    pytest.importorskip("openvino")
    model = load_dinov2(dinov2_folder, backend="openvino", attention="eager")
    for inside in ({"layers": [0]}, {"facets": ["key"]}, {"attention": True}):
        with pytest.raises(ValueError, match="backend='torch'"):
            extract_features(model, picture(20, 20), **inside)


def test_without_the_package(dinov2_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'dinov2-in-practice\[openvino\]'"):
        load_dinov2(dinov2_folder, backend="openvino")


def test_openvino_needs_nothing_of_the_scale_package(dinov2_folder, tmp_path):
    """A laptop has neither Ray nor pyarrow nor fsspec of it."""
    pytest.importorskip("openvino")
    import subprocess

    code = (
        "import sys\n"
        "for name in ('ray', 'pyarrow', 'fsspec', 'dinov2_scale'): sys.modules[name] = None\n"
        "from dinov2_helpers import load_dinov2\n"
        f"print(load_dinov2({str(dinov2_folder)!r}, backend='openvino').encoder.name)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "openvino", result.stderr


def test_nobody_is_told(dinov2_folder, picture, monkeypatch):
    """OpenVINO's own converter reports each call, unless its users have said that it must not."""
    pytest.importorskip("openvino")
    telemetry = pytest.importorskip("openvino_telemetry")

    def told(*_arguments, **_options):
        raise AssertionError("telemetry")

    monkeypatch.setattr(telemetry.Telemetry, "init", told)
    monkeypatch.setattr(telemetry.Telemetry, "send_event", told)
    extract_features(load_dinov2(dinov2_folder, backend="openvino"), picture(20, 20))


def test_clip_is_no_dinov2(clip_folder):
    assert load_clip(clip_folder, device="cpu").encoder.name in ("torch", "onednn")


@pytest.mark.skipif(
    not hasattr(torch.compiler, "is_exporting"),
    reason="transformers' DINOv2 asks PyTorch's compiler what it knows from 2.7 on",
)
@pytest.mark.parametrize("layers", [(), (0, -1)])
def test_a_compiled_model_gives_the_same(dinov2_folder, pictures, layers):
    """As docs/scaling.md says for GPUs; here without the generated code, which needs a compiler."""
    expected = extract_features(load_dinov2(dinov2_folder, device="cpu"), pictures, layers=layers)
    model = load_dinov2(dinov2_folder, device="cpu", backend="torch")
    before = model.encoder.fingerprint()
    used = []

    def spy(graph, _):
        used.append(graph)
        return graph.forward

    model.model.compile(backend=spy)
    found = extract_features(model, pictures, layers=layers)
    assert used
    assert differ(found.cls, expected.cls) < CLOSE
    assert differ(found.patches, expected.patches) < CLOSE
    for layer in layers:
        assert differ(found.layers[layer].patches, expected.layers[layer].patches) < CLOSE
    assert model.encoder.fingerprint() == before
