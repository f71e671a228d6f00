"""The rules of evidence 07 on made-up numbers of all outcomes; its functions on small inputs."""

import numpy as np
import pytest
import torch

from dinov2_helpers import load_diffusion, samples
from dinov2_helpers.measure import Interval
from tools import pairing
from tools.lift import lift
from tools.project import Project

# diffusers hands a tensor to numpy in a way that numpy 2 wants changed
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")


@pytest.fixture(scope="module")
def notebook():
    source = pairing.read_source(Project(), "evidence/07_guided_diffusion")
    found = lift(
        source, "verdict_on_function", "verdict_on_sweet_spot", "verdict_on_weak",
        "verdict_on_strong", "verdict_on_first_half", "verdict_on_style", "verdict_on_material",
        "verdict_on_personal", "ratio", "windows", "across", "overlap", "colours_apart", "on_grid",
        "blurred", "shuffled", "by_edges", "pixels_apart", "kept_for_backward", "needed",
        "CHECKPOINTED", "fused_attention", "Task",
    )  # fmt: skip
    return found


# The rules

UP = Interval(0.3, 0.2, 0.4)
DOWN = Interval(-0.3, -0.4, -0.2)
UNSURE = Interval(0.0, -0.1, 0.1)
NEARLY_ALL = Interval(0.95, 0.91, 0.99)
MOST = Interval(0.7, 0.6, 0.8)
ABOUT_HALF = Interval(0.5, 0.4, 0.6)
LITTLE = Interval(0.1, 0.0, 0.2)


@pytest.mark.parametrize(
    ("runs", "gain", "verdict"),
    [
        (True, UP, "holds"),
        (False, UP, "holds in part"),
        (False, UNSURE, "does not hold"),
        (True, DOWN, "does not hold"),
    ],
)
def test_the_function_guides(notebook, runs, gain, verdict):
    assert notebook["verdict_on_function"](runs, gain) == verdict


@pytest.mark.parametrize(
    ("reached", "verdict"),
    [(MOST, "holds"), (ABOUT_HALF, "holds in part"), (LITTLE, "does not hold")],
)
def test_a_sweet_spot(notebook, reached, verdict):
    assert notebook["verdict_on_sweet_spot"](reached) == verdict


@pytest.mark.parametrize(
    ("own", "ours", "verdict"),
    [
        (LITTLE, LITTLE, "holds"),
        (LITTLE, MOST, "holds in part"),
        (ABOUT_HALF, ABOUT_HALF, "holds in part"),
        (MOST, MOST, "does not hold"),
    ],
)
def test_weak_strengths(notebook, own, ours, verdict):
    assert notebook["verdict_on_weak"](own, ours) == verdict


@pytest.mark.parametrize(
    ("beside_none", "beside_chosen", "verdict"),
    [
        (DOWN, DOWN, "holds"),
        (DOWN, UNSURE, "holds"),
        (UNSURE, DOWN, "holds in part"),
        (UNSURE, UNSURE, "does not hold"),
    ],
)
def test_strong_strengths(notebook, beside_none, beside_chosen, verdict):
    assert notebook["verdict_on_strong"](beside_none, beside_chosen) == verdict


@pytest.mark.parametrize(
    ("by_guide", "by_other", "verdict"),
    [
        (NEARLY_ALL, NEARLY_ALL, "holds"),
        (NEARLY_ALL, MOST, "holds in part"),
        (ABOUT_HALF, MOST, "holds in part"),
        (NEARLY_ALL, LITTLE, "does not hold"),
    ],
)
def test_the_first_half(notebook, by_guide, by_other, verdict):
    assert notebook["verdict_on_first_half"](by_guide, by_other) == verdict


@pytest.mark.parametrize(
    ("colours", "class_kept", "beyond", "verdict"),
    [
        (DOWN, UNSURE, UP, "holds"),
        (DOWN, DOWN, UP, "holds in part"),
        (DOWN, UNSURE, UNSURE, "holds in part"),
        (UNSURE, UNSURE, UP, "does not hold"),
    ],
)
def test_style(notebook, colours, class_kept, beyond, verdict):
    assert notebook["verdict_on_style"](colours, class_kept, beyond) == verdict


@pytest.mark.parametrize(
    ("alike", "class_kept", "variety", "verdict"),
    [
        (UP, UNSURE, MOST, "holds"),
        (UP, DOWN, MOST, "holds in part"),
        (UP, UNSURE, LITTLE, "holds in part"),  # img2img copies
        (UNSURE, UNSURE, MOST, "does not hold"),  # noise varies too
    ],
)
def test_material(notebook, alike, class_kept, variety, verdict):
    assert notebook["verdict_on_material"](alike, class_kept, variety) == verdict


@pytest.mark.parametrize(
    ("found", "beyond_impostors", "beyond_unguided", "verdict"),
    [
        (MOST, UP, UP, "holds"),
        (MOST, UNSURE, UP, "holds in part"),
        (ABOUT_HALF, UP, UP, "holds in part"),
        (MOST, UP, UNSURE, "does not hold"),
    ],
)
def test_personal(notebook, found, beyond_impostors, beyond_unguided, verdict):
    given = notebook["verdict_on_personal"](found, beyond_impostors, beyond_unguided)
    assert given == verdict


def test_a_ratio_of_means_has_its_interval(notebook):
    whole = np.random.default_rng(0).normal(1.0, 0.1, 50)
    found = notebook["ratio"](0.4 * whole, whole)
    np.testing.assert_allclose(found, 0.4)
    rough = notebook["ratio"](whole[::-1] * 0.4, whole)
    assert rough.low < rough.value < rough.high


# Its functions


def test_checkpoints_are_those_of_diffusers(notebook, diffusion_folder):
    pipeline = load_diffusion(diffusion_folder, device="cpu")
    size = pipeline.unet.config.sample_size
    latents = torch.randn(1, 4, size, size, requires_grad=True)
    text = torch.randn(1, 7, pipeline.unet.config.cross_attention_dim)
    runs = {
        "UNet": (pipeline.unet, lambda: pipeline.unet(latents, 1, encoder_hidden_states=text)),
        "VAE": (pipeline.vae, lambda: pipeline.vae.decode(latents)),
    }
    for name, (network, run) in runs.items():
        network.requires_grad_(False).enable_gradient_checkpointing()
        outermost, within = set(), []

        def note(block, *inputs, outermost=outermost, within=within):
            if not within:
                outermost.add(type(block))
            within.append(block)
            result = block(*inputs)
            within.pop()
            return result

        for module in network.modules():
            if hasattr(module, "_gradient_checkpointing_func"):
                module._gradient_checkpointing_func = note
        run()
        assert outermost == set(notebook["CHECKPOINTED"][name]), name


def test_memory_kept_is_counted_by_hand(notebook):
    def linear():
        return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh())

    with torch.device("meta"):
        network = torch.nn.Sequential(linear(), torch.nn.Linear(16, 8), linear())
        x = torch.empty(4, 8, requires_grad=True)
    network.requires_grad_(False)
    kept = notebook["kept_for_backward"](network, lambda: network(x), (torch.nn.Sequential,))
    # with frozen weights only the outputs of tanh are needed, (4, 16) floats each
    by_block = [n for key, n in kept.items() if key not in ("inputs", "outside")]
    assert sorted(by_block) == [256, 256] and kept["outside"] == 0
    # into the whole network, which is a block too, and into the two in it
    assert kept["inputs"] == 3 * 128
    assert notebook["needed"](kept, False) * 2**30 == 512
    assert notebook["needed"](kept, True) * 2**30 == 3 * 128 + 256


def test_fused_attention_keeps_no_matrix_of_pairs(notebook):
    q, k, v = (torch.empty(1, 2, 50, 4, device="meta", requires_grad=True) for _ in range(3))
    nothing = torch.nn.Module()
    fused = notebook["kept_for_backward"](nothing, lambda: notebook["fused_attention"](q, k, v), ())
    assert fused["outside"] == 4 * (1 * 2 * 50 * 4) * 4
    plain = notebook["kept_for_backward"](nothing, lambda: torch.softmax(q @ k.mT, -1) @ v, ())
    assert plain["outside"] >= 2 * 50 * 50 * 4


def test_maps_and_their_place(notebook):
    maps = np.zeros((2, 4, 4))
    maps[0, :, 0] = maps[1, :, 3] = 1
    np.testing.assert_allclose(notebook["across"](maps), [0.125, 0.875])
    truth = np.zeros((2, 4, 4))
    truth[0, :2, 0] = 1
    np.testing.assert_allclose(notebook["overlap"](maps, truth), [0.5, 0])
    np.testing.assert_allclose(notebook["overlap"](0 * maps, 0 * truth), 0)
    mask = np.zeros((8, 8), bool)
    mask[:4, :4] = True
    np.testing.assert_allclose(notebook["on_grid"]([mask], 2)[0], [[1, 0], [0, 0]])


def test_windows_place_the_toy_left_and_right(notebook):
    found = notebook["windows"](samples.load_scenes("test"), 1)
    assert len(found) >= 16
    for _, picture, mask, on_right in found:
        assert picture.shape[:2] == mask.shape and mask.shape[0] == mask.shape[1]
        assert mask.any()
        centre = notebook["across"](mask[None].astype(float))[0]
        assert abs(centre - (0.7 if on_right else 0.3)) < 0.12


def test_distances_of_colours_and_pixels(notebook):
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    shuffled = rng.permutation(a.reshape(2, 64, 3), axis=1).reshape(a.shape)
    np.testing.assert_allclose(notebook["colours_apart"](a, shuffled), 0, atol=1e-9)
    white, black = np.full((1, 4, 4, 3), 255, np.uint8), np.zeros((1, 4, 4, 3), np.uint8)
    np.testing.assert_allclose(notebook["colours_apart"](white, black), 100, rtol=1e-3)
    np.testing.assert_allclose(notebook["pixels_apart"](white, black), 255)


def test_impostors_show_no_toy_and_keep_what_fools(notebook):
    pictures = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    mixed = notebook["shuffled"](pictures)
    assert mixed.shape == pictures.shape and (mixed != pictures).any()
    assert np.array_equal(np.sort(mixed, axis=None), np.sort(pictures, axis=None))
    tile = pictures[0, :8, :8]
    places = [(r, c) for r in range(0, 64, 8) for c in range(0, 64, 8)]
    assert sum(np.array_equal(mixed[0, r : r + 8, c : c + 8], tile) for r, c in places) == 1
    soft = notebook["blurred"](pictures)
    assert soft.shape == pictures.shape
    assert soft.std() < 0.2 * pictures.std() and abs(soft.mean() - pictures.mean()) < 5


def test_the_shape_knows_no_colour(notebook):
    picture = np.zeros((1, 64, 64, 3), np.uint8)
    picture[:, 16:48, 24:40] = 200
    tinted = (picture * [1.0, 0.2, 0.1]).astype(np.uint8)
    (one,) = notebook["by_edges"](picture)
    assert np.linalg.norm(one) == pytest.approx(1)
    assert one @ notebook["by_edges"](tinted)[0] == pytest.approx(1, abs=0.02)
    assert one @ notebook["by_edges"](picture.swapaxes(1, 2))[0] < 0.8
    assert np.isfinite(notebook["by_edges"](np.zeros_like(picture))).all()
