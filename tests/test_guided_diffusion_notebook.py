"""The functions of notebook 07, lifted out of its text; networks are small and random."""

import types

import numpy as np
import pytest
import torch
from PIL import Image

from dinov2_helpers import load_diffusion, samples, to_pixels
from dinov2_helpers.pictures import Preprocessing
from tools import pairing
from tools.lift import exercise_problems, lift
from tools.project import Project

# diffusers hands a tensor to numpy in a way that numpy 2 wants changed
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
}


@pytest.fixture(scope="module")
def source():
    return pairing.read_source(Project(), "07_guided_diffusion")


@pytest.fixture(scope="module")
def notebook(source):
    return lift(
        source, "sample", "draw", "levels", "to_noise", "from_noise", "predict_noise", "decode",
        "encode", "encode_prompts", "start_noise", "dino_view", "features", "unlike", "full",
        "cheap", "normalised", "Guide", "article", "as_tensor", "as_arrays", "interval",
        "kept_for_backward", "needed", "CHECKPOINTED", "across", "overlap", "colour_distance",
        "on_grid", "windows", "pixel_distance", "statement", "verdict_of", "fused_attention",
    )  # fmt: skip


def schedulers():
    from diffusers import DDIMScheduler, EulerDiscreteScheduler, PNDMScheduler

    ddim = {"clip_sample": False, "set_alpha_to_one": False}
    return {
        "ddim": lambda **options: DDIMScheduler(**SCHEDULE, **ddim, **options),
        "pndm": lambda **options: PNDMScheduler(**SCHEDULE, skip_prk_steps=True, **options),
        "euler": lambda **options: EulerDiscreteScheduler(
            **SCHEDULE, timestep_spacing="leading", **options
        ),
    }


def make_pipeline(scheduler, unet, vae, seed=0):
    """A pipeline of random networks, with the tokenizer of the embedded CLIP."""
    from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModel

    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(samples.data_dir() / "models" / "clip-tiny")
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=unet["cross_attention_dim"], intermediate_size=32,
        num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    parts = {
        "vae": AutoencoderKL(latent_channels=unet["in_channels"], **vae),
        "unet": UNet2DConditionModel(out_channels=unet["in_channels"], **unet),
        "text_encoder": CLIPTextModel(text),
    }
    for part in parts.values():
        part.eval().requires_grad_(False)
    nothing = {"safety_checker": None, "feature_extractor": None}
    pipeline = StableDiffusionPipeline(
        scheduler=scheduler, tokenizer=tokenizer, requires_safety_checker=False, **parts, **nothing
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def small_pipeline(scheduler):
    unet = {
        "sample_size": 4, "in_channels": 3, "block_out_channels": (8, 8), "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "norm_num_groups": 4,
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "cross_attention_dim": 16,
        "attention_head_dim": 2,
    }  # fmt: skip
    vae = {
        "down_block_types": ("DownEncoderBlock2D",) * 3, "block_out_channels": (8, 8, 8),
        "up_block_types": ("UpDecoderBlock2D",) * 3, "norm_num_groups": 4, "sample_size": 16,
    }  # fmt: skip
    return make_pipeline(scheduler, unet, vae)


@pytest.fixture(scope="module")
def dino():
    """A random DINOv2 with what the notebook reads of a loaded one."""
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(1)
    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=56, patch_size=7
    )
    return types.SimpleNamespace(
        model=Dinov2Model(config).eval().requires_grad_(False),
        processor=types.SimpleNamespace(
            image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]
        ),
        patch_size=7, n_layers=4, n_registers=0, device=torch.device("cpu"), dtype=torch.float32,
    )  # fmt: skip


@pytest.fixture
def doubled(dino):
    dino.model.double()
    dino.dtype = torch.float64
    yield dino
    dino.model.float()
    dino.dtype = torch.float32


TEXTS = ["a photo of a red boat", "a photo of a mug on sand"]


@pytest.mark.parametrize("name", ["ddim", "pndm", "euler"])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_loop_draws_what_the_pipeline_draws(notebook, name, kind):
    pipeline = small_pipeline(schedulers()[name](prediction_type=kind))
    seeds = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    options = {"num_inference_steps": 5, "guidance_scale": 4.0, "output_type": "latent"}
    theirs = pipeline(TEXTS, generator=seeds, **options).images
    ours = notebook["sample"](pipeline, TEXTS, [3, 4], steps=5, cfg=4.0)
    assert float(theirs.std()) > 0.1
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["ddim", "pndm", "euler"])
def test_levels_are_what_the_unet_sees(notebook, name):
    scheduler = schedulers()[name]()
    scheduler.set_timesteps(6)
    x0, noise = torch.randn(2, 1, 3, 4, 4).unbind(0)
    for t in (scheduler.timesteps[0], scheduler.timesteps[-1]):
        signal, spread = notebook["levels"](scheduler, t)
        assert signal**2 + spread**2 == pytest.approx(1)
        noisy = scheduler.add_noise(x0, noise, t[None])
        if hasattr(scheduler, "sigmas"):
            scheduler._step_index = None
        seen = scheduler.scale_model_input(noisy, t)
        torch.testing.assert_close(seen, signal * x0 + spread * noise, rtol=1e-4, atol=1e-4)


def test_x0_and_noise_of_both_kinds_of_model(notebook):
    x0, noise = torch.randn(2, 3, 2, 4, 4, dtype=torch.float64).unbind(0)
    signal, spread = 0.6, 0.8
    seen = signal * x0 + spread * noise
    for kind, output in (("epsilon", noise), ("v_prediction", signal * noise - spread * x0)):
        found = notebook["to_noise"](output, seen, signal, spread, kind)
        torch.testing.assert_close(found, noise)
        torch.testing.assert_close((seen - spread * found) / signal, x0)
        again = notebook["from_noise"](found, seen, signal, spread, kind)
        torch.testing.assert_close(again, output)


@pytest.mark.parametrize(
    "what", [("cls",), ("mean",), ("patches",), ("middle",), ("cls", "texture")]
)
@pytest.mark.parametrize("update", ["full", "cheap"])
def test_the_gradient_is_that_of_finite_differences(notebook, doubled, what, update):
    pipeline = small_pipeline(schedulers()["ddim"]())
    pipeline.unet.double()
    pipeline.vae.double()
    pipeline.scheduler.set_timesteps(5)
    t = pipeline.scheduler.timesteps[2]
    level = notebook["levels"](pipeline.scheduler, t)
    states = notebook["encode_prompts"](pipeline, ["", "", *TEXTS]).double()
    seen = notebook["start_noise"](pipeline, [0, 1]).double()
    pictures = torch.rand(2, 3, 16, 16, dtype=torch.float64) * 2 - 1
    targets = [x[:, None] for x in notebook["features"](doubled, pictures, what)]

    def predict(x):
        return notebook["predict_noise"](pipeline, states, 3.0, t, x)

    def loss(x0):
        shown = notebook["features"](doubled, notebook["decode"](pipeline, x0), what)
        return notebook["unlike"](shown, targets)

    _, gradient = notebook[update](predict, loss, seen, *level)

    def x0_of(x):
        return (x - level[1] * predict(x)) / level[0]

    at, value = (seen, lambda x: loss(x0_of(x))) if update == "full" else (x0_of(seen), loss)
    direction = torch.randn(at.shape, generator=torch.Generator().manual_seed(5)).double()
    width = 1e-6
    slope = (value(at + width * direction) - value(at - width * direction)) / (2 * width)
    said = (gradient * direction).flatten(1).sum(1)
    assert float(said.abs().max()) > 1e-6
    torch.testing.assert_close(slope, said, rtol=1e-4, atol=1e-9)


def test_strength_is_a_share_of_the_noise_whatever_the_gradient(notebook):
    gradient, noise = torch.randn(2, 3, 4, 8, 8).unbind(0)
    push = notebook["normalised"](gradient, noise, 0.3)
    lengths = push.flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full((3,), 0.3))
    scaled = gradient * torch.tensor([1e-6, 1.0, 1e6]).view(3, 1, 1, 1)
    torch.testing.assert_close(notebook["normalised"](scaled, noise, 0.3), push)
    assert torch.equal(notebook["normalised"](0 * gradient, noise, 0.3), 0 * gradient)


def guide_to(notebook, dino, n, **options):
    pictures = torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(2)) * 2 - 1
    targets = [x[:, None] for x in notebook["features"](dino, pictures, ["cls"])]
    return notebook["Guide"](dino, targets, **options)


@pytest.mark.parametrize("name", ["ddim", "euler"])
def test_guidance_brings_pictures_closer_to_the_target(notebook, dino, name):
    pipeline = small_pipeline(schedulers()[name]())

    def distance(guide):
        latents = notebook["sample"](pipeline, TEXTS, [0, 1], guide, steps=4, cfg=2.0)
        pictures = notebook["decode"](pipeline, latents)
        found = notebook["features"](dino, pictures, ["cls"])
        return notebook["unlike"](found, guide_to(notebook, dino, 2).targets)

    free = distance(None)
    torch.testing.assert_close(distance(guide_to(notebook, dino, 2, strength=0.0)), free)
    for update in ("full", "cheap"):
        options = {"strength": 0.3, "update": notebook[update]}
        assert (distance(guide_to(notebook, dino, 2, **options)) < 0.98 * free).all()


def test_a_guide_is_asked_in_its_part_of_the_steps_only(notebook, dino):
    pipeline = small_pipeline(schedulers()["ddim"]())
    for during, calls in (((0.0, 0.5), 3), ((0.5, 1.0), 3), ((0.0, 1.0), 6), ((0.2, 0.2), 0)):
        asked = []

        def update(predict, loss, seen, signal, spread, asked=asked):
            asked.append(signal)
            return notebook["cheap"](predict, loss, seen, signal, spread)

        guide = guide_to(notebook, dino, 2, during=during, update=update)
        notebook["sample"](pipeline, TEXTS, [0, 1], guide, steps=6, cfg=2.0)
        assert len(asked) == calls


def test_pictures_do_not_depend_on_their_company(notebook, dino):
    pipeline = small_pipeline(schedulers()["ddim"]())
    texts, seeds = TEXTS * 9, list(range(18))
    guide = guide_to(notebook, dino, 18)
    together = notebook["draw"](pipeline, texts, seeds, guide, steps=2)
    assert together.shape == (18, 16, 16, 3) and together.dtype == np.uint8
    alone = notebook["draw"](
        pipeline, texts[17:], seeds[17:], notebook["Guide"](dino, [guide.targets[0][17:]]), steps=2
    )
    assert np.abs(together[17].astype(int) - alone[0]).max() <= 1


@pytest.mark.parametrize("name", ["ddim", "euler"])
def test_with_the_true_noise_img2img_returns_to_its_start(notebook, name):
    pipeline = small_pipeline(schedulers()[name]())
    start, noise = torch.randn(1, 3, 4, 4), notebook["start_noise"](pipeline, [7])
    config = pipeline.unet.config

    class Oracle:
        dtype = torch.float32

        def __call__(self, seen, t, encoder_hidden_states):
            return types.SimpleNamespace(sample=torch.cat([noise, noise]))

    stand_in = types.SimpleNamespace(
        **{k: getattr(pipeline, k) for k in ("scheduler", "tokenizer", "text_encoder", "device")},
        unet=Oracle(), vae=pipeline.vae,
    )  # fmt: skip
    stand_in.unet.config = config
    film = []
    found = notebook["sample"](
        stand_in, TEXTS[:1], [7], steps=10, cfg=1.0, start=start, skip=6, film=film
    )
    for x0 in film:
        torch.testing.assert_close(x0, start, rtol=1e-3, atol=2e-3)
    # the schedule of SD ends a little before all noise is gone, but for Euler's
    torch.testing.assert_close(found, start, rtol=0, atol=0.15)


@pytest.mark.parametrize(
    ("name", "update"), [("ddim", "full"), ("pndm", "cheap"), ("euler", "cheap")]
)
def test_a_step_on_the_shapes_of_stable_diffusion(notebook, dino, name, update):
    unet = {
        "sample_size": 64, "in_channels": 4, "block_out_channels": (8, 16, 16, 16),
        "layers_per_block": 1, "cross_attention_dim": 32, "attention_head_dim": 1,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3, "norm_num_groups": 8,
    }  # fmt: skip
    vae = {
        "down_block_types": ("DownEncoderBlock2D",) * 4, "block_out_channels": (4, 4, 8, 8),
        "up_block_types": ("UpDecoderBlock2D",) * 4, "norm_num_groups": 4, "sample_size": 512,
        "layers_per_block": 1,
    }  # fmt: skip
    pipeline = make_pipeline(schedulers()[name](), unet, vae)
    assert pipeline.vae_scale_factor == 8
    lengths = []

    def watched(*arguments):
        noise, gradient = notebook[update](*arguments)
        lengths.append(float(gradient.norm()))
        return noise, gradient

    guide = guide_to(notebook, dino, 1, update=watched)
    latents = notebook["sample"](pipeline, TEXTS[:1], [0], guide, steps=1, cfg=7.5)
    assert latents.shape == (1, 4, 64, 64) and torch.isfinite(latents).all()
    assert len(lengths) == len(pipeline.scheduler.timesteps) and min(lengths) > 0


def test_dinov2_sees_what_its_processor_would_show_it(notebook, dino):
    picture = np.random.default_rng(0).integers(0, 256, (56, 56, 3), dtype=np.uint8)
    pixels = notebook["as_tensor"]([picture], 56)
    np.testing.assert_array_equal(notebook["as_arrays"](pixels)[0], picture)
    preprocessing = Preprocessing.from_processor(vars(dino.processor), patch_size=7)
    expected = to_pixels(Image.fromarray(picture), preprocessing, size=56, fit="resize")
    found = notebook["dino_view"](dino, pixels)[0]
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-4, atol=1e-4)
    larger = notebook["dino_view"](dino, torch.rand(2, 3, 100, 100))
    assert larger.shape == (2, 3, 56, 56)


def test_features_have_the_shapes_that_losses_compare(notebook, dino):
    pictures = torch.rand(2, 3, 16, 16) * 2 - 1
    shapes = {"cls": (1, 16), "mean": (1, 16), "patches": (64, 16)}
    shapes |= {"middle": (64, 16), "texture": (1, 256)}
    for what, shape in shapes.items():
        (found,) = notebook["features"](dino, pictures, [what])
        assert found.shape == (2, *shape)
        same = notebook["unlike"]([found], [found[:, None]])
        torch.testing.assert_close(same, torch.zeros(2), atol=1e-5, rtol=0)


def test_the_loss_is_the_mean_over_targets_and_kinds(notebook):
    found, other = torch.randn(2, 3, 5, 8).unbind(0)
    apart = notebook["unlike"]([found], [other[:, None]])
    expected = 1 - torch.nn.functional.cosine_similarity(found, other, dim=-1).mean(1)
    torch.testing.assert_close(apart, expected)
    both = torch.stack([found, other], dim=1)
    torch.testing.assert_close(notebook["unlike"]([found], [both]), apart / 2)
    kinds = notebook["unlike"]([found, found], [found[:, None], other[:, None]])
    torch.testing.assert_close(kinds, apart / 2)


def test_texture_does_not_know_where_things_are(notebook, dino):
    embeddings = dino.model.embeddings.position_embeddings
    kept = embeddings.data.clone()
    try:
        embeddings.data.zero_()
        picture = torch.rand(1, 3, 56, 56) * 2 - 1
        moved = torch.cat([picture[..., 28:], picture[..., :28]], dim=3)
        here, there = (
            notebook["features"](dino, x, ["texture", "patches"]) for x in (picture, moved)
        )
        texture, patches = (
            float(notebook["unlike"]([a], [b[:, None]])) for a, b in zip(here, there, strict=True)
        )
    finally:
        embeddings.data.copy_(kept)
    assert texture < 1e-5 < patches


def test_the_article_fails_error_by_error(notebook, dino):
    pipeline = small_pipeline(schedulers()["ddim"]())
    wanted = torch.randn(2, 16)

    def article(repaired, texts=TEXTS, **options):
        pipeline.scheduler.set_timesteps(4)
        return notebook["article"](
            pipeline, dino, texts, wanted, [0, 1], repaired=repaired, **options
        )

    with pytest.raises((TypeError, AttributeError)):
        article((), texts=TEXTS[0])
    with pytest.raises(RuntimeError, match="does not require grad"):
        article(("text",))
    log = []
    everything = ("text", "gradient", "timesteps", "cfg", "scale")
    runs = {n: article(everything[:n]) for n in (2, 3, 4)}
    runs[5] = article(everything, log=log)
    assert all(torch.isfinite(x).all() for x in runs.values())
    assert all(float((runs[n] - runs[n + 1]).abs().max()) > 1e-4 for n in (2, 3, 4))
    assert len(log) == 2


def test_the_article_without_guidance_and_errors_is_the_loop(notebook, dino, monkeypatch):
    monkeypatch.setitem(notebook["article"].__globals__, "CFG", 4.0)
    pipeline = small_pipeline(schedulers()["ddim"]())
    pipeline.scheduler.set_timesteps(4)
    everything = ("text", "gradient", "timesteps", "cfg", "scale")
    found = notebook["article"](
        pipeline, dino, TEXTS, None, [0, 1], strength=0, repaired=everything
    )
    latents = notebook["sample"](pipeline, TEXTS, [0, 1], steps=4, cfg=4.0)
    expected = notebook["decode"](pipeline, latents)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_checkpoints_are_those_of_diffusers(notebook, diffusion_folder, monkeypatch):
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
    np.testing.assert_allclose(notebook["colour_distance"](a, shuffled), 0, atol=1e-9)
    white, black = np.full((1, 4, 4, 3), 255, np.uint8), np.zeros((1, 4, 4, 3), np.uint8)
    np.testing.assert_allclose(notebook["colour_distance"](white, black), 100, rtol=1e-3)
    np.testing.assert_allclose(notebook["pixel_distance"](white, black), 255)


def test_interval_covers_the_mean(notebook):
    values = np.random.default_rng(0).normal(2, 1, 400)
    mean, low, high = notebook["interval"](values)
    assert mean == pytest.approx(values.mean())
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert notebook["interval"](np.ones(5, bool)) == (1, 1, 1)


def test_prompts_say_what_training_captions_say(notebook):
    assert notebook["statement"]("airplane", "orange", "tiles") == (
        "a photo of an orange airplane on a tiled floor"
    )
    assert notebook["statement"]("snowman", "red", "snow") == (
        "a photo of a snowman with a red scarf on snow"
    )


def test_verdicts(notebook):
    assert notebook["verdict_of"](True) == "holds"
    assert notebook["verdict_of"](False, True) == "holds in part"
    assert notebook["verdict_of"](False) == "does not hold"


def test_exercises_can_be_solved_and_their_checks_tell(source):
    assert exercise_problems(source) == []
