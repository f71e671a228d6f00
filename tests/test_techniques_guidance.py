"""Guides: the loop is the pipeline's own, the push is what it says, what cannot be is refused."""

import dataclasses
import types

import numpy as np
import pytest
import torch
from picture_files import NOTABLE, write_notable
from PIL import Image

from dinov2_helpers import load_diffusion, load_dinov2, photographs, to_pixels
from dinov2_helpers.models.load import Dinov2
from dinov2_helpers.pictures import Preprocessing
from dinov2_helpers.techniques import schedules
from dinov2_helpers.techniques.denoisers import Denoiser
from dinov2_helpers.techniques.guidance import Guide, _Steering, pushes
from dinov2_helpers.techniques.keeping import KeptError
from dinov2_helpers.techniques.likeness import KINDS, Likeness, Targets, view
from dinov2_helpers.techniques.schedules import Level, Schedule, check_scheduler
from tools import pairing
from tools.lift import lift
from tools.project import Project

# diffusers hands tensors to numpy in ways that numpy 2 wants changed
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
}
NO_CLIP = {"clip_sample": False}
TEXTS = ["a photo of a red boat", "a photo of a mug on sand"]
SIDE = 16  # pixels of the small pipelines' pictures
KINDS_OF_MODELS = ("epsilon", "v_prediction", "sample", "flow")


def make_scheduler(name, kind="epsilon", **options):
    import diffusers

    if name == "FlowMatchEulerDiscreteScheduler":
        return diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, **options)
    plain = NO_CLIP if name.startswith("DD") else {}
    return getattr(diffusers, name)(**{**SCHEDULE, **plain, "prediction_type": kind, **options})


def supported():
    return [(name, kind) for name, kinds in schedules.SUPPORTED.items() for kind in kinds]


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    from dinov2_helpers import data_dir

    found = AutoTokenizer.from_pretrained(data_dir() / "models" / "clip-tiny")
    found.model_max_length = 32
    return found


def settled(network, seed):
    """A network of transformers with random weights that are the same in all its versions."""
    random = np.random.default_rng(seed)
    for _, weight in sorted(network.named_parameters()):
        if weight.ndim > 1:
            weight.data = torch.from_numpy(random.normal(0, 0.2, weight.shape)).float()
    return network


def text_config(tokenizer, **options):
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=32, projection_dim=16,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, initializer_range=0.2, **options,
    )  # fmt: skip


def make_vae(channels, **options):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3, block_out_channels=(8, 8, 8),
        up_block_types=("UpDecoderBlock2D",) * 3, norm_num_groups=4, sample_size=SIDE,
        latent_channels=channels, **options,
    )  # fmt: skip


def make_unet(**options):
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=4, in_channels=3, out_channels=3, block_out_channels=(8, 8),
        layers_per_block=1, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), norm_num_groups=4,
        cross_attention_dim=16, attention_head_dim=2, **options,
    )  # fmt: skip


def quiet(pipeline):
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def stable_diffusion(tokenizer, scheduler):
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTextModel

    torch.manual_seed(0)
    return quiet(
        StableDiffusionPipeline(
            vae=make_vae(3), unet=make_unet(),
            text_encoder=settled(CLIPTextModel(text_config(tokenizer)), seed=0),
            tokenizer=tokenizer, scheduler=scheduler, safety_checker=None, feature_extractor=None,
            requires_safety_checker=False,
        )
    )  # fmt: skip


def stable_diffusion_xl(tokenizer, scheduler):
    from diffusers import StableDiffusionXLPipeline
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(0)
    config = text_config(tokenizer)
    unet = make_unet(
        addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=16 + 6 * 8,
    )  # fmt: skip
    # of the two encoders' states side by side
    wide = type(unet).from_config({**unet.config, "cross_attention_dim": 32})
    return quiet(
        StableDiffusionXLPipeline(
            vae=make_vae(3, latents_mean=None), unet=wide, text_encoder=CLIPTextModel(config),
            text_encoder_2=CLIPTextModelWithProjection(config), tokenizer=tokenizer,
            tokenizer_2=tokenizer, scheduler=scheduler, add_watermarker=False,
        )
    )  # fmt: skip


def stable_diffusion_3(tokenizer, scheduler):
    from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
    from transformers import CLIPTextModelWithProjection

    torch.manual_seed(0)
    config = text_config(tokenizer)
    transformer = SD3Transformer2DModel(
        sample_size=4, patch_size=1, in_channels=4, num_layers=1, attention_head_dim=8,
        num_attention_heads=4, joint_attention_dim=32, caption_projection_dim=32,
        pooled_projection_dim=32, out_channels=4, pos_embed_max_size=8,
    )  # fmt: skip
    return quiet(
        StableDiffusion3Pipeline(
            transformer=transformer, scheduler=scheduler,
            vae=make_vae(4, shift_factor=0.06, scaling_factor=1.5),
            text_encoder=CLIPTextModelWithProjection(config), tokenizer=tokenizer,
            text_encoder_2=CLIPTextModelWithProjection(config), tokenizer_2=tokenizer,
            text_encoder_3=None, tokenizer_3=None,
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def make_pipeline(tokenizer):
    """A function that makes a small pipeline for a kind of model, or with a scheduler."""

    def make(kind="epsilon", scheduler=None):
        if kind == "flow":
            given = scheduler or make_scheduler("FlowMatchEulerDiscreteScheduler")
            return stable_diffusion_3(tokenizer, given)
        return stable_diffusion(tokenizer, scheduler or make_scheduler("DDIMScheduler", kind))

    return make


def make_dino(dtype=torch.float32, resample=3):
    """A random DINOv2 of few numbers, as `load_dinov2` gives them."""
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=56, patch_size=7,
    )  # fmt: skip
    model = settled(Dinov2Model(config), seed=1).eval().requires_grad_(False).to(dtype)
    processor = {
        "image_processor_type": "BitImageProcessor", "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225], "crop_size": 56, "size": 64, "resample": resample,
    }  # fmt: skip
    return Dinov2(
        model=model, processor=types.SimpleNamespace(**processor), name="random", patch_size=7,
        preprocessing=Preprocessing.from_processor(processor, 7), dim=16, width=16, n_layers=4,
        n_heads=2, n_registers=0, image_size=56, device=torch.device("cpu"), dtype=dtype,
        backend="torch",
    )  # fmt: skip


@pytest.fixture(scope="module")
def dino():
    return make_dino()


@pytest.fixture(scope="module")
def targets():
    """Two pictures, (2, 16, 16, 3)."""
    coarse = np.random.default_rng(2).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


def own_pictures(pipeline, texts, seed, steps, scale, **options):
    """What the pipeline itself draws, (n, H, W, 3) uint8, and the latents."""
    found = []
    for output in ("pil", "latent"):
        generators = [torch.Generator().manual_seed(seed + k) for k in range(len(texts))]
        settings = {"num_inference_steps": steps, "guidance_scale": scale, "output_type": output}
        found.append(pipeline(list(texts), generator=generators, **settings, **options).images)
    return np.stack([np.asarray(one) for one in found[0]]), found[1].float().numpy()


# The loop


@pytest.mark.parametrize(("name", "kind"), supported())
def test_unguided_it_draws_what_the_pipeline_draws(make_pipeline, dino, targets, name, kind):
    pipeline = make_pipeline(kind, make_scheduler(name, kind))
    pictures, latents = own_pictures(pipeline, TEXTS, 3, 5, 4.0)
    found = Guide(dino, targets[0], strength=0).sample(
        pipeline, TEXTS, steps=5, guidance_scale=4.0, seed=3
    )
    assert pictures.std() > 3
    np.testing.assert_array_equal(found.pictures, pictures)
    np.testing.assert_array_equal(found.latents, latents)
    assert found.seeds == (3, 4) and found.prompts == tuple(TEXTS)
    assert not found.strength.any() and np.isnan(found.loss).all()


@pytest.mark.parametrize("scale", [1.0, 5.0])
@pytest.mark.parametrize("negative", [None, "a dog"])
def test_so_do_other_pipelines(tokenizer, dino, targets, scale, negative):
    euler = make_scheduler("EulerDiscreteScheduler")
    flow = make_scheduler("FlowMatchEulerDiscreteScheduler", use_dynamic_shifting=True)
    for pipeline in (
        stable_diffusion(tokenizer, euler),
        stable_diffusion_xl(tokenizer, euler),
        stable_diffusion_3(tokenizer, flow),
    ):
        without = None if negative is None else [negative] * 2
        options = {"height": 24, "width": 16, "negative_prompt": without}
        expected, _ = own_pictures(pipeline, TEXTS, 0, 4, scale, **options)
        found = Guide(dino, targets[0], strength=0, features="cls").sample(
            pipeline, TEXTS, steps=4, guidance_scale=scale, height=24, width=16,
            negative_prompt=negative, batch_size=2,
        )  # fmt: skip
        np.testing.assert_array_equal(found.pictures, expected)


def test_the_embedded_model_draws_the_same_unguided():
    pipeline = load_diffusion("tiny", device="cpu")
    expected, _ = own_pictures(pipeline, TEXTS, 7, 3, 4.0)
    guide = Guide(load_dinov2("tiny", device="cpu"), photographs()["cat"], strength=0, size=56)
    found = guide.sample(pipeline, TEXTS, steps=3, guidance_scale=4.0, seed=7)
    np.testing.assert_array_equal(found.pictures, expected)


class Oracle(torch.nn.Module):
    """A network that knows x0 and reads the noise off what it sees, as a trained one would."""

    dtype = torch.float32

    def __init__(self, x0, kind, in_channels):
        super().__init__()
        self.x0 = x0
        self.kind = kind
        self.config = types.SimpleNamespace(
            in_channels=in_channels, sample_size=4, get=lambda name, default=None: default
        )
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        self.kept = torch.cumprod(1 - betas, 0)

    def forward(self, seen, timestep, **conditions):
        if self.kind == "flow":
            sigma = float(timestep) / 1000
            return (seen - (1 - sigma) * self.x0) / sigma - self.x0
        kept = float(np.interp(float(timestep), np.arange(1000), self.kept))
        signal, spread = kept**0.5, (1 - kept) ** 0.5
        noise = (seen - signal * self.x0) / spread
        answers = {
            "epsilon": noise,
            "v_prediction": signal * noise - spread * self.x0,
            "sample": self.x0.expand_as(seen),
        }
        return answers[self.kind]


@pytest.mark.parametrize(("name", "kind"), supported())
def test_x0_is_what_a_perfect_model_means(name, kind):
    """By training's own definition of noise levels, which knows nothing of the scheduler's."""
    scheduler = make_scheduler(name, kind)
    x0 = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    oracle = Oracle(x0, kind, 3)
    schedule = Schedule(scheduler, 7, "cpu")
    generators = [torch.Generator().manual_seed(1)]
    noise = torch.randn(1, 3, 4, 4, generator=generators[0])
    latents = noise * getattr(scheduler, "init_noise_sigma", 1.0)
    if kind != "flow" and not hasattr(scheduler, "sigmas"):
        latents = scheduler.add_noise(x0, noise, scheduler.timesteps[:1])
    elif kind != "flow":
        latents = x0 + scheduler.sigmas[0] * noise
    assert len(schedule) == 7
    for timestep, level in schedule:
        seen = schedule.scaled(latents, timestep)
        output = oracle(seen, timestep)
        torch.testing.assert_close(level.x0(output, seen), x0, rtol=1e-3, atol=1e-3)
        if level.spread > 0.1:
            remains = (seen - level.signal * x0) / level.spread
            torch.testing.assert_close(level.noise(output, seen), remains, rtol=1e-3, atol=1e-3)
        latents = schedule.step(output, timestep, latents, generators)
    # the schedule ends a little before all noise is gone, but for those that end at sigma 0
    torch.testing.assert_close(latents, x0, rtol=0, atol=0.15)


@pytest.mark.parametrize("kind", KINDS_OF_MODELS)
def test_a_push_moves_the_noise_and_what_is_seen_stays(kind):
    signal, spread = (0.3, 0.7) if kind == "flow" else (0.6, 0.8)
    level = Level(kind, signal, spread)
    x0, noise, push = torch.randn(3, 2, 3, 4, 4, dtype=torch.float64).unbind(0)
    seen = signal * x0 + spread * noise
    meant = {
        "epsilon": noise,
        "v_prediction": signal * noise - spread * x0,
        "sample": x0,
        "flow": noise - x0,
    }[kind]
    torch.testing.assert_close(level.x0(meant, seen), x0)
    torch.testing.assert_close(level.noise(meant, seen), noise)
    pushed = level.pushed(meant, push)
    x0_after, noise_after = level.x0(pushed, seen), level.noise(pushed, seen)
    torch.testing.assert_close(signal * x0_after + spread * noise_after, seen)
    share = signal if kind == "flow" else 1.0
    torch.testing.assert_close(noise_after, noise + share * push)
    down = spread if kind == "flow" else spread / signal
    torch.testing.assert_close(x0_after, x0 - down * push)


def test_strength_is_a_share_of_the_noise_whatever_the_gradient():
    gradient, noise = torch.randn(2, 3, 4, 8, 8).unbind(0)
    push, lengths = pushes(gradient, noise, 0.3)
    shares = push.flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1)
    torch.testing.assert_close(shares, torch.full((3,), 0.3))
    torch.testing.assert_close(lengths, gradient.flatten(1).norm(dim=1))
    scaled = gradient * torch.tensor([1e-6, 1.0, 1e6]).view(3, 1, 1, 1)
    torch.testing.assert_close(pushes(scaled, noise, 0.3)[0], push)
    assert torch.equal(pushes(0 * gradient, noise, 0.3)[0], 0 * gradient)


# The gradient


@pytest.mark.parametrize("kind", KINDS_OF_MODELS)
@pytest.mark.parametrize("gradient", ["full", "cheap"])
def test_the_gradient_is_that_of_finite_differences(make_pipeline, targets, kind, gradient):
    pipeline = make_pipeline(kind)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.double()
    guide = Guide(make_dino(torch.float64), [*targets], features=KINDS, gradient=gradient, size=28)
    denoiser = Denoiser(pipeline, TEXTS, None, 3.0, (SIDE, SIDE))
    steering = _Steering(guide, guide._features_of([0, 1]))
    timestep, level = list(denoiser.schedule(5))[2]
    shape = (2, denoiser.network.config.in_channels, 4, 4)
    seen = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    by = steering._full if gradient == "full" else steering._cheap
    output, loss, found = by(denoiser, seen, timestep, level)

    def loss_of_x0(x0):
        return guide.likeness_.unlike(denoiser.decode(x0), steering.targets)

    def loss_of_seen(x):
        return loss_of_x0(level.x0(denoiser.predict(x, timestep), x))

    value = loss_of_seen if gradient == "full" else loss_of_x0
    at = seen if gradient == "full" else level.x0(output, seen)
    direction = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    width = 1e-6
    with torch.no_grad():
        torch.testing.assert_close(value(at), loss)
        ahead, behind = value(at + width * direction), value(at - width * direction)
    slope = (ahead - behind) / (2 * width)
    said = (found * direction).flatten(1).sum(1)
    assert float(said.abs().min()) > 1e-6
    torch.testing.assert_close(slope, said, rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS_OF_MODELS)
@pytest.mark.parametrize("gradient", ["full", "cheap"])
def test_a_small_push_lowers_the_loss_at_its_step(make_pipeline, dino, targets, kind, gradient):
    """By "cheap" of x0 after the push; by "full" of x0 where what is seen has less of the push."""
    pipeline = make_pipeline(kind)
    guide = Guide(dino, targets[0], strength=1e-3, gradient=gradient)
    denoiser = Denoiser(pipeline, TEXTS, None, 3.0, (SIDE, SIDE))
    steering = _Steering(guide, guide._features_of([0, 0]))
    timestep, level = list(denoiser.schedule(5))[2]
    shape = (2, denoiser.network.config.in_channels, 4, 4)
    seen = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    output, record = steering.step(denoiser, seen, timestep, level)
    with torch.no_grad():
        plain = denoiser.predict(seen, timestep)
        if gradient == "cheap":
            x0 = level.x0(output, seen)
        else:
            # a pushed output is one of latents with less of the push
            push = level.noise(output, seen) - level.noise(plain, seen)
            x0 = level.x0(denoiser.predict(seen - push, timestep), seen - push)
        after = guide.likeness_.unlike(denoiser.decode(x0), steering.targets)
    assert (after.numpy() < record.loss).all()


@pytest.mark.parametrize(
    ("name", "kind", "gradient"),
    [
        (name, kind, gradient)
        for name, kind in supported()
        for gradient in ("full", "cheap")
        if kind != "sample"  # of a random network x0 does not answer to what it sees
        and (gradient == "cheap" or name.startswith(("DDIM", "Flow")))
    ],
)
def test_guidance_brings_pictures_closer_to_the_target(
    make_pipeline, dino, targets, name, kind, gradient
):
    pipeline = make_pipeline(kind, make_scheduler(name, kind))
    guide = Guide(dino, targets[0], strength=0.3, features="cls", gradient=gradient)

    def distance(strength):
        own = Guide(dino, guide.targets_, strength=strength, features="cls", gradient=gradient)
        drawn = own.sample(pipeline, TEXTS, steps=6, guidance_scale=2.0, seed=0)
        pictures = torch.from_numpy(drawn.pictures).permute(0, 3, 1, 2) / 255
        return guide.likeness_.unlike(pictures, guide._features_of([0, 0])), drawn

    (free, _), (guided, drawn) = distance(0.0), distance(0.3)
    assert (guided < 0.98 * free).all()
    np.testing.assert_allclose(drawn.strength, 0.3, rtol=1e-4)
    assert np.isfinite(drawn.loss).all() and (drawn.gradient_norm > 0).all()
    assert drawn.loss.shape == (2, 6) and (drawn.noise[:-1] > drawn.noise[1:]).all()


# What DINOv2 sees


@pytest.mark.parametrize("resample", [2, 3])
def test_dinov2_sees_what_its_processor_would_show_it(picture, resample):
    """To a grey level or so, since Pillow rounds twice; exactly where nothing is scaled."""
    preprocessing = dataclasses.replace(make_dino().preprocessing, resample=resample)
    limit = 1.25 if resample == 3 else 1.01
    for side, size in ((28, 28), (40, 28), (64, 112), (200, 28)):
        values = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
        for image in (picture(side, side), Image.fromarray(values)):
            pixels = torch.from_numpy(np.array(image, np.float32)).permute(2, 0, 1)[None] / 255
            found = view(preprocessing, pixels, size)[0].numpy()
            expected = to_pixels(image, preprocessing, size=size, fit="resize")
            assert found.shape == expected.shape == (3, size, size)
            deviation = np.array(preprocessing.std, np.float32)[:, None, None]
            grey_levels = np.abs(found - expected) * deviation * 255
            assert grey_levels.max() < (1e-3 if side == size else limit)
            assert grey_levels.mean() < 0.4


def test_a_processor_with_another_filter_is_refused(targets):
    with pytest.raises(ValueError, match="resample=1"):
        Guide(make_dino(resample=1), targets[0])


def test_features_are_those_of_extraction(targets):
    from dinov2_helpers import extract_features

    dinov2 = load_dinov2("tiny", device="cpu")
    image = photographs()["cat"].crop((0, 0, 300, 300)).resize((56, 56))
    guide = Guide(dinov2, image, features=KINDS, size=56)
    layer = dinov2.n_layers // 2 - 1
    expected = extract_features(dinov2, [image], size=56, fit="resize", layers=[layer])
    found = guide.targets_.features
    np.testing.assert_allclose(found["cls"][0, 0], expected.cls[0], atol=2e-4)
    patches = expected.patches.reshape(1, -1, dinov2.dim)
    np.testing.assert_allclose(found["patches"], patches, atol=2e-4)
    np.testing.assert_allclose(found["mean"][:, 0], patches.mean(1), atol=2e-4)
    middle = expected.layers[layer].patches.reshape(1, -1, dinov2.dim)
    np.testing.assert_allclose(found["middle"], middle, atol=2e-4)
    assert found["texture"].shape == (1, 1, dinov2.dim**2)


# The lesson


@pytest.fixture
def lesson(make_pipeline):
    """The loop of lesson 7 on a small pipeline."""
    source = pairing.read_source(Project(), "07_guided_diffusion")
    found = lift(source, "draw", "tokens_of", "article")
    scheduler = make_scheduler("DDIMScheduler", set_alpha_to_one=False)
    found["pipeline"] = make_pipeline(scheduler=scheduler)
    found["scheduler"] = scheduler
    found["dinov2"] = make_dino(resample=2)  # the lesson scales with this filter
    return found


def as_lesson_takes(pictures):
    """Pictures (n, H, W, 3) from 0 to 255 as (n, 3, H, W) from -1 to 1."""
    return torch.from_numpy(pictures.copy()).permute(0, 3, 1, 2) / 127.5 - 1


@pytest.mark.parametrize("strength", [0.0, 0.3])
def test_it_draws_what_the_lesson_draws(lesson, targets, strength):
    wanted = None
    if strength:
        with torch.no_grad():
            wanted = lesson["tokens_of"](as_lesson_takes(targets))[:, 0]
    expected = lesson["draw"](TEXTS, [5, 6], wanted, strength, steps=5)
    guide = Guide(
        lesson["dinov2"], targets, features="cls", gradient="full", strength=strength, size=56,
        pairing="each",
    )  # fmt: skip
    found = guide.sample(lesson["pipeline"], TEXTS, steps=5, guidance_scale=4.0, seed=5)
    assert np.abs(found.pictures.astype(int) - expected).max() <= 1
    assert np.ptp(expected) > 50


@pytest.mark.parametrize("done", [2, 3, 4, 5, 6])
def test_lesson_and_evidence_repair_the_same_loop(lesson, targets, done):
    repairs = ("text", "gradient", "timestep", "scale", "prompt", "clean")[:done]
    lesson.update(seeds=[5, 6], texts=TEXTS, targets=as_lesson_takes(targets))
    source = pairing.read_source(Project(), "evidence/07_guided_diffusion")
    evidence = lift(source, "ask_article", "Task")
    evidence |= {name: lesson[name] for name in ("pipeline", "dinov2")}
    task = evidence["Task"](TEXTS, targets, np.array(["boat", "mug"]), np.arange(2), 5)
    drawn = lesson["article"](30.0, repairs, n=2, steps=4)
    again = evidence["ask_article"](task, 30.0, repairs, 4)
    assert np.abs(drawn.astype(int) - again).max() <= 1
    unguided = lesson["article"](0.0, repairs, n=2, steps=4)
    assert (drawn != unguided).any()


def test_the_last_article_without_guidance_is_the_loop(lesson, targets):
    everything = ("text", "gradient", "timestep", "scale", "prompt", "clean")
    lesson.update(seeds=[5, 6], texts=TEXTS, targets=as_lesson_takes(targets))
    drawn = lesson["article"](0.0, everything, n=2, steps=5)
    assert np.abs(drawn.astype(int) - lesson["draw"](TEXTS, [5, 6], steps=5)).max() <= 1


# Settings


def test_it_guides_in_its_part_of_the_steps_only(make_pipeline, dino, targets):
    pipeline = make_pipeline()
    for when, turns in (
        ((0.0, 0.5), [1, 1, 1, 0, 0, 0]), ((0.5, 1.0), [0, 0, 0, 1, 1, 1]), ((0.2, 0.2), [0] * 6)
    ):  # fmt: skip
        guide = Guide(dino, targets[0], when=when, strength=0.2)
        drawn = guide.sample(pipeline, TEXTS[0], steps=6, guidance_scale=2.0)
        np.testing.assert_allclose(drawn.strength[0], 0.2 * np.array(turns), rtol=1e-4)
        np.testing.assert_array_equal(np.isfinite(drawn.loss[0]), np.array(turns) == 1)


def test_pictures_do_not_depend_on_their_company(make_pipeline, dino, targets):
    pipeline = make_pipeline()
    guide = Guide(dino, targets, pairing="each")
    options = {"steps": 3, "guidance_scale": 3.0, "n": 2}
    together = guide.sample(pipeline, TEXTS, seed=1, **options)
    assert together.prompts == (TEXTS[0], TEXTS[0], TEXTS[1], TEXTS[1])
    assert together.seeds == (1, 2, 3, 4) and len(together) == 4
    for batch_size in (1, 3):
        parts = guide.sample(pipeline, TEXTS, seed=1, batch_size=batch_size, **options)
        assert np.abs(parts.pictures.astype(int) - together.pictures).max() <= 1
        np.testing.assert_allclose(parts.loss, together.loss, atol=1e-4)
    second = Guide(dino, targets[1])(pipeline, TEXTS[1], seed=4, steps=3, guidance_scale=3.0)
    assert np.abs(second.pictures[0].astype(int) - together.pictures[3]).max() <= 1


def test_several_targets_pull_by_the_mean_of_their_losses(dino, targets):
    guide = Guide(dino, [*targets], features="both")
    pictures = torch.rand(3, 3, SIDE, SIDE)
    losses = [
        Guide(dino, one, features="both").likeness_.unlike(
            pictures, Guide(dino, one, features="both")._features_of([0] * 3)
        )
        for one in targets
    ]
    found = guide.likeness_.unlike(pictures, guide._features_of([0] * 3))
    torch.testing.assert_close(found, torch.stack(losses).mean(0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strength": -0.1}, "strength=-0.1"),
        ({"strength": float("nan")}, "strength=nan"),
        ({"when": (0.5, 0.2)}, "when="),
        ({"when": (0, 1.5)}, "when="),
        ({"features": "colour"}, "features='colour'"),
        ({"features": ()}, "features="),
        ({"features": ("cls", "colour")}, "features="),
        ({"gradient": "dear"}, "gradient='dear'"),
        ({"pairing": "some"}, "pairing='some'"),
        ({"size": 0}, "size=0"),
    ],
)
def test_impossible_settings_are_named(dino, targets, settings, message):
    with pytest.raises(ValueError, match=message):
        Guide(dino, targets[0], **settings)


def test_what_cannot_be_drawn_is_said(make_pipeline, dino, targets):
    pipeline = make_pipeline()
    guide = Guide(dino, targets, features="both", pairing="each")
    with pytest.raises(ValueError, match="3 prompts for 2 targets"):
        guide.sample(pipeline, ["a", "b", "c"])
    with pytest.raises(ValueError, match=r"\['patches'\].* not 16x24"):
        guide.sample(pipeline, TEXTS, height=24)
    with pytest.raises(ValueError, match="height=18 and width=16: multiples of 4"):
        guide.sample(pipeline, TEXTS, height=18)
    with pytest.raises(ValueError, match="steps=0"):
        guide.sample(pipeline, TEXTS, steps=0)
    with pytest.raises(ValueError, match="one text or more"):
        guide.sample(pipeline, [])


def test_bad_targets_are_left_out_and_said(dino, targets, tmp_path, caplog):
    Image.fromarray(targets[0]).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    guide = Guide(dino, tmp_path)
    assert guide.targets_.names == ("a.png",) and len(guide.targets_) == 1
    assert [one.name for one in guide.targets_.skipped] == ["b.png"]
    assert "b.png" in caplog.text
    write_notable(tmp_path, Image.fromarray(targets[0]))
    Guide(dino, tmp_path)
    for said in NOTABLE:
        assert caplog.text.count(said) == 1
    for name in ("a.png", "dark.png", "moving.gif"):
        (tmp_path / name).unlink()
    with pytest.raises(ValueError, match="no picture that can be read"):
        Guide(dino, tmp_path)


# What is refused


@pytest.mark.parametrize("name", sorted(schedules.REFUSED))
def test_schedulers_whose_loop_this_is_not_are_refused_by_name(make_pipeline, dino, targets, name):
    import diffusers

    cls = getattr(diffusers, name, None)
    if cls is None:
        pytest.skip(f"diffusers has no {name}, or not here")
    pipeline = make_pipeline()
    try:
        pipeline.scheduler = cls()
    except (ImportError, ValueError, OSError) as error:
        pytest.skip(str(error))
    with pytest.raises(ValueError, match=rf"{name} .*: take one of .*from_config"):
        Guide(dino, targets[0]).sample(pipeline, TEXTS)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (make_scheduler("DDIMScheduler", clip_sample=True), "clip_sample=True.*clip_sample=False"),
        (make_scheduler("DDPMScheduler", thresholding=True), "thresholding=True"),
        (make_scheduler("FlowMatchEulerDiscreteScheduler", invert_sigmas=True), "invert_sigmas"),
        (
            make_scheduler("FlowMatchEulerDiscreteScheduler", stochastic_sampling=True),
            "stochastic_sampling=True",
        ),
        (make_scheduler("EulerAncestralDiscreteScheduler", "sample"), "prediction_type='sample'"),
        (make_scheduler("DDIMScheduler", "velocity"), "prediction_type='velocity'"),
    ],
)
def test_settings_that_change_x0_on_the_way_are_refused(
    make_pipeline, dino, targets, scheduler, message
):
    pipeline = make_pipeline()
    pipeline.scheduler = scheduler
    with pytest.raises(ValueError, match=message):
        Guide(dino, targets[0]).sample(pipeline, TEXTS)


def test_a_refused_scheduler_is_told_with_those_that_work():
    with pytest.raises(ValueError, match=r"PNDMScheduler .*take one of \['DDIM.*\.from_config\("):
        check_scheduler(make_scheduler("PNDMScheduler"))
    unable = make_scheduler("EulerAncestralDiscreteScheduler", "sample")
    with pytest.raises(ValueError, match=r"take one of \['DDIM.*= DDIMScheduler\.from_config\("):
        check_scheduler(unable)


def test_a_scheduler_that_nobody_checked_is_refused(make_pipeline, dino, targets):
    from diffusers import DDIMScheduler

    class MyScheduler(DDIMScheduler):
        """Who knows what it does."""

    pipeline = make_pipeline()
    pipeline.scheduler = MyScheduler(**SCHEDULE, **NO_CLIP)
    with pytest.raises(ValueError, match="MyScheduler is not among those that were checked"):
        Guide(dino, targets[0]).sample(pipeline, TEXTS)


def test_pipelines_whose_loop_this_is_not_are_refused_by_name(make_pipeline, dino, targets):
    guide = Guide(dino, targets[0])
    for name in ("FluxPipeline", "PixArtSigmaPipeline", "StableDiffusionImg2ImgPipeline"):
        other = type(name, (), {})()
        with pytest.raises(ValueError, match=f"{name} cannot be guided here.*StableDiffusion3"):
            guide.sample(other, TEXTS)
    pipeline = make_pipeline()
    pipeline.unet.register_to_config(encoder_hid_dim_type="ip_image_proj")
    with pytest.raises(ValueError, match="IP-Adapter"):
        guide.sample(pipeline, TEXTS)
    pipeline = make_pipeline()
    pipeline.unet.register_to_config(time_cond_proj_dim=8)
    with pytest.raises(ValueError, match="time_cond_proj_dim"):
        guide.sample(pipeline, TEXTS)
    pipeline = make_pipeline()
    pipeline.vae._hf_hook = object()
    with pytest.raises(ValueError, match=r"\['vae'\] are moved .*remove_all_hooks"):
        guide.sample(pipeline, TEXTS)


@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler"])
def test_where_nothing_but_noise_is_seen_there_is_no_push(make_pipeline, dino, targets, name):
    options = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    pipeline = make_pipeline("v_prediction", make_scheduler(name, "v_prediction", **options))
    guide = Guide(dino, targets[0], strength=0.3, features="cls")
    for gradient in ("cheap", "full"):
        guide = Guide(dino, guide.targets_, strength=0.3, features="cls", gradient=gradient)
        drawn = guide.sample(pipeline, TEXTS, steps=4, guidance_scale=2.0)
        np.testing.assert_allclose(drawn.strength[0], [0, 0.3, 0.3, 0.3], rtol=1e-4)
        assert np.isfinite(drawn.latents).all()
    expected, _ = own_pictures(pipeline, TEXTS, 0, 4, 2.0)
    free = Guide(dino, guide.targets_, strength=0, features="cls")
    np.testing.assert_array_equal(
        free.sample(pipeline, TEXTS, steps=4, guidance_scale=2.0).pictures, expected
    )


# 16 bits


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["v_prediction", "flow"])
@pytest.mark.parametrize("gradient", ["cheap", "full"])
def test_sixteen_bits_find_the_gradient_of_thirty_two(
    make_pipeline, targets, dtype, kind, gradient
):
    found = []
    for number in (torch.float32, dtype):
        pipeline = make_pipeline(kind).to(number)
        guide = Guide(make_dino(number), targets[0], gradient=gradient)
        denoiser = Denoiser(pipeline, TEXTS, None, 2.0, (SIDE, SIDE))
        steering = _Steering(guide, guide._features_of([0, 0]))
        timestep, level = list(denoiser.schedule(5))[2]
        shape = (2, denoiser.network.config.in_channels, 4, 4)
        seen = torch.randn(shape, generator=torch.Generator().manual_seed(3)).to(number)
        by = steering._full if gradient == "full" else steering._cheap
        found.append(by(denoiser, seen, timestep, level)[1:])
        drawn = guide.sample(pipeline, TEXTS, steps=2, guidance_scale=2.0)
        np.testing.assert_allclose(drawn.strength, 0.3, rtol=1e-3)
        assert pipeline.vae.dtype == number
    (loss, exact), (near, rough) = found
    assert near.dtype == rough.dtype == torch.float32
    torch.testing.assert_close(near, loss, atol=0.02, rtol=0)
    cosines = torch.nn.functional.cosine_similarity(exact.flatten(1), rough.flatten(1))
    assert (cosines > 0.9).all()


def test_the_vae_computes_in_float32_where_its_config_says_so(make_pipeline, dino, targets):
    seen = []
    for force in (True, False):
        pipeline = make_pipeline().to(torch.float16)
        pipeline.vae.register_to_config(force_upcast=force)
        pipeline.vae.decoder.register_forward_pre_hook(
            lambda module, given: seen.append(given[0].dtype)
        )
        Guide(dino, targets[0]).sample(pipeline, TEXTS, steps=2, guidance_scale=2.0)
        assert pipeline.vae.dtype == torch.float16
    # two steps each, then the finished picture as the pipeline decodes it
    assert seen == [torch.float32] * 2 + [torch.float16] * 4


def test_a_gradient_that_is_not_finite_is_an_error(make_pipeline, dino, targets):
    pipeline = make_pipeline()
    guide = Guide(dino, targets[0])
    guide.targets_.features["cls"][:] = np.nan
    with pytest.raises(FloatingPointError, match=r"pictures \[0, 1\] of 2 .*float32"):
        guide.sample(pipeline, TEXTS, steps=2)


def test_networks_are_left_as_they_were(make_pipeline, targets):
    dino, pipeline = make_dino(), make_pipeline()
    for module in (dino.model, pipeline.unet):
        module.requires_grad_(True)
    with torch.inference_mode():  # which a caller may be in
        Guide(dino, targets[0]).sample(pipeline, TEXTS, steps=2)
    weights = [*dino.model.parameters(), *pipeline.unet.parameters()]
    assert all(one.requires_grad and one.grad is None for one in weights)
    assert not any(one.requires_grad for one in pipeline.vae.parameters())


# In a folder


def test_it_is_found_again_in_a_folder(make_pipeline, targets, tmp_path):
    dinov2 = load_dinov2("tiny", device="cpu")
    settings = {"features": "both", "strength": 0.4, "when": (0.0, 0.8), "gradient": "full"}
    guide = Guide(dinov2, {"red": targets[0], "blue": targets[1]}, size=56, **settings)
    guide.save(tmp_path / "kept")
    for given in (None, dinov2):
        found = Guide.load(tmp_path / "kept", given)
        assert found.targets_.names == ("red", "blue")
        assert found.features == ("cls", "patches") and found.pairing == "all"
        for name in ("strength", "when", "gradient"):
            assert getattr(found, name) == settings[name]
        for kind, features in guide.targets_.features.items():
            np.testing.assert_array_equal(found.targets_.features[kind], features)
    pipeline = make_pipeline()
    pictures = [one.sample(pipeline, TEXTS, steps=2).pictures for one in (guide, found)]
    np.testing.assert_array_equal(*pictures)
    other = load_dinov2("tiny", device="cpu", backend="torch")
    other.model.layernorm.weight.data += 0.01
    with pytest.raises(KeptError, match="other weights"):
        Guide.load(tmp_path / "kept", other)


def test_targets_of_another_guide_must_fit(dino, targets):
    guide = Guide(dino, targets[0], features=("cls", "texture"), size=56)
    assert Guide(dino, guide.targets_, features="cls", size=56).targets_ is guide.targets_
    with pytest.raises(ValueError, match=r"at 56 px given where .* at 28 px"):
        Guide(dino, guide.targets_, features="cls", size=28)
    with pytest.raises(ValueError, match=r"\['patches'\] at 56 px are wanted"):
        Guide(dino, guide.targets_, features="patches", size=56)
    assert isinstance(Likeness(dino, ("cls",), 28), Likeness)
    assert isinstance(guide.targets_, Targets)
