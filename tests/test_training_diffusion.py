"""Networks, losses, captions and bookkeeping of the training of the embedded diffusion model."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from sklearn.decomposition import PCA

from dinov2_helpers.samples import data_dir
from training.captions import EnglishWriter
from training.diffusion.autoencoder import AutoencoderStage, picture_loss, psnr
from training.diffusion.card import COLUMNS, ROWS, table
from training.diffusion.config import SCALE, Recipe
from training.diffusion.denoiser import DenoiserStage, time_chances
from training.diffusion.evaluate import frechet, frechet_interval
from training.diffusion.material import (
    KINDS,
    Material,
    caption,
    class_alone,
    kind,
    shrink,
    statement,
)
from training.diffusion.model import (
    Code,
    make_autoencoder,
    make_pipeline,
    make_scheduler,
    reconstruct,
    text_states,
    to_bytes,
    to_signal,
)
from training.diffusion.sampling import GUIDANCE, STEPS, sample, wishes
from training.diffusion.train import export, load_text
from training.world.toys import CLASSES, EXCEPTIONS, PALETTES

pytestmark = pytest.mark.computes
CPU = torch.device("cpu")


def toy(name="dog", colour="red", x=100.0, flying=False):
    return {"class": name, "colour": colour, "flying": flying, "x": x}


def facts(*objects, framing="portrait", surface="grass"):
    return {"surface": surface, "framing": framing, "objects": list(objects)}


@pytest.fixture
def recipe():
    return Recipe(
        side=32, channels=2, coder_widths=(8, 8, 8, 8), coder_steps=4, coder_batch=4,
        widths=(16, 16), heads=2, time_width=16, steps=6, batch=6, warmup=2,
    )  # fmt: skip


@pytest.fixture
def shards(tmp_path):
    rng = np.random.default_rng(0)
    for name, shape in (("toys", (6, 2, 40, 40, 3)), ("multi", (6, 40, 40, 3))):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "00000.npy", rng.integers(0, 256, shape, dtype=np.uint8))
    views = [facts(toy()), facts(toy(), framing="wide")]
    two = facts(toy("cat", "blue", 30.0), toy("boat", "red", 190.0), framing="wide")
    for name, row in {"toys": {"views": views}, "multi": two}.items():
        (tmp_path / name / "00000.jsonl").write_text((json.dumps(row) + "\n") * 6, encoding="utf-8")
    return tmp_path


@pytest.fixture
def material(recipe, shards, tmp_path):
    return Material.load(shards, tmp_path / "cache", recipe.side, CPU)


@pytest.fixture
def code(recipe, material):
    return Code.fitted(material.pictures, recipe.channels)


@pytest.fixture(scope="module")
def text():
    return load_text(data_dir() / "models" / "clip-tiny", CPU)


@pytest.fixture
def stage(recipe, material, code, text, tmp_path):
    return DenoiserStage(recipe, material, code, *text, tmp_path / "run", CPU)


def test_a_statement_says_all_there_is_to_say():
    assert statement(facts(toy("boat"), surface="sand")) == "a photo of a red boat on sand"
    flying = facts(toy("airplane", "orange", flying=True), surface="road")
    assert statement(flying) == "a photo of an orange airplane flying over a road"
    far = facts(toy("snowman", "blue"), framing="wide", surface="snow")
    assert statement(far) == "a snowman with a blue scarf seen from afar on snow"


def test_captions_vary_but_far_toys_are_always_said_to_be_far():
    writer = EnglishWriter(np.random.default_rng(0))
    near = {caption(writer, facts(toy())) for _ in range(100)}
    assert len(near) > 10 and not any("afar" in text for text in near)
    far = [caption(writer, facts(toy(), framing="wide")) for _ in range(20)]
    assert all("afar" in text for text in far)
    two = facts(toy("cat", "blue", 30.0), toy("boat", "red", 190.0), framing="wide")
    assert any("boat" in caption(writer, two) for _ in range(20))
    assert [kind(one) for one in (facts(toy()), facts(toy(), framing="wide"), two)] == [
        "portrait", "wide", "multi",
    ]  # fmt: skip


def test_the_noise_is_that_of_stable_diffusion():
    scheduler = make_scheduler()
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    assert np.allclose(scheduler.alphas_cumprod, np.cumprod(1 - betas), atol=1e-5)
    assert scheduler.config.prediction_type == "v_prediction"
    assert not scheduler.config.clip_sample


def test_times_are_drawn_by_min_snr_weights():
    kept = torch.tensor([0.999, 0.9, 0.5, 0.01])
    snr = kept / (1 - kept)
    weights = torch.clamp(5 / (snr + 1), max=1)
    chances = time_chances(kept, 5.0)
    assert chances.sum() == pytest.approx(1)
    assert torch.allclose(chances[1:] / chances[3], weights[1:])
    assert chances[0] / chances[3] == pytest.approx(0.1)


def test_what_is_learned_leads_back_to_the_latents(stage):
    clean, _, noise, times = stage.draw()
    scheduler = stage.scheduler
    noisy = scheduler.add_noise(clean, noise, times)
    aim = scheduler.get_velocity(clean, noise, times)
    kept = scheduler.alphas_cumprod[times].view(-1, 1, 1, 1)
    assert torch.allclose(kept.sqrt() * noisy - (1 - kept).sqrt() * aim, clean, atol=1e-5)
    assert torch.allclose(kept.sqrt() * aim + (1 - kept).sqrt() * noisy, noise, atol=1e-5)


def test_the_loss_of_pictures_counts_edges():
    wanted = torch.zeros(1, 1, 16, 16)
    assert picture_loss(wanted, wanted) == 0
    assert picture_loss(wanted + 0.1, wanted).item() == pytest.approx(4 * 0.1)
    stripes = torch.full((16, 16), 0.1)
    stripes[:, ::2] = -0.1
    assert picture_loss(wanted + stripes, wanted).item() == pytest.approx(0.1 + 0.2)


def test_the_code_is_that_of_principal_components(material):
    code = Code.fitted(material.pictures, 5)
    blocks = torch.nn.functional.unfold(to_signal(material.pictures), 8, stride=8)
    x = blocks.transpose(1, 2).reshape(-1, 192)
    reference = PCA(5).fit(x.numpy())
    latents = code.encode(material.pictures)
    assert latents.shape == (18, 5, 4, 4)
    rows = latents.movedim(1, -1).reshape(-1, 5)
    assert torch.allclose(rows.mean(0), torch.zeros(5), atol=1e-4)
    deviations = np.sqrt(reference.explained_variance_)
    expected = np.sqrt(deviations / deviations.mean())
    assert np.allclose(rows.std(0), expected, rtol=1e-3)
    assert rows.var(0).mean().item() == pytest.approx(1, rel=1e-3)
    error = (to_signal(code.decode(latents)) - to_signal(material.pictures)).square().mean()
    lost = x.numpy() - reference.inverse_transform(reference.transform(x.numpy()))
    # noise leaves the range of bytes, where it is cut, so a little less is lost
    assert 0.8 * (lost**2).mean() < error.item() < 1.01 * (lost**2).mean()


def test_a_code_with_all_components_loses_nothing(material, tmp_path):
    code = Code.fitted(material.pictures, 192)
    code.save(tmp_path / "code.safetensors")
    again = Code.load(tmp_path / "code.safetensors", CPU)
    made = again.decode(again.encode(material.pictures))
    assert (made.int() - material.pictures.int()).abs().max() <= 1
    assert psnr(made, material.pictures).mean() > 45


def test_an_untrained_autoencoder_has_latents_at_the_scale_of_stable_diffusion(recipe, material):
    network = make_autoencoder(recipe)
    posterior = network.encode(to_signal(material.pictures)).latent_dist
    inside = network.encoder(to_signal(material.pictures))[:, : recipe.channels]
    assert torch.allclose(posterior.mean * SCALE, inside, atol=1e-5)
    assert torch.allclose(posterior.logvar, torch.tensor(-4.0))
    assert reconstruct(network, material.pictures).shape == material.pictures.shape


def test_bytes_survive_as_signal():
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(to_bytes(to_signal(every)), every)
    assert to_bytes(torch.tensor([-2.0, 2.0])).tolist() == [0, 255]


def test_pictures_are_kept_and_drawn_by_kind(recipe, shards, tmp_path):
    material = Material.load(shards, tmp_path / "cache", recipe.side, CPU)
    assert [len(rows) for rows in material.rows] == [6] * len(KINDS)
    again = Material.load(tmp_path / "nothing", tmp_path / "cache", recipe.side, CPU)
    assert torch.equal(again.pictures, material.pictures) and again.facts == material.facts
    with pytest.raises(FileNotFoundError, match=r"training\.world\.material"):
        Material.load(tmp_path / "nothing", tmp_path / "other", recipe.side, CPU)
    material.shares = (0.0, 0.0, 1.0)
    pictures, shown = material.draw(np.random.default_rng(0), 40)
    orders = [tuple(one["class"] for one in facts["objects"]) for facts in shown]
    assert set(orders) == {("cat", "boat"), ("boat", "cat")}
    for picture, order in zip(pictures, orders, strict=True):
        upright = picture if order == ("cat", "boat") else picture.flip(-1)
        assert (material.pictures[12:] == upright).flatten(1).all(1).any()


def test_pictures_are_shrunk_without_aliasing():
    checks = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    checks[..., ::2] = 200
    assert (shrink(checks, 16)[..., 1:-1].float() - 100).abs().max() <= 5


def test_a_batch_is_that_of_its_step(stage):
    first, second = stage.draw(), stage.draw()
    for a, b in zip(first, second, strict=True):
        assert a == b if isinstance(a, list) else torch.equal(a, b)
    stage.step = 1
    assert not torch.equal(stage.draw()[2], first[2])
    clean, texts, noise, times = first
    assert clean.shape == noise.shape == (6, 2, 4, 4) and len(texts) == 6
    assert times.min() >= 0 and times.max() < 1000
    stage.recipe = dataclasses.replace(stage.recipe, silent=1.0)
    assert stage.draw()[1] == [""] * 6


def test_the_average_follows_the_weights(stage):
    before = torch.nn.utils.parameters_to_vector(stage.average.parameters())
    stage.train_step()
    learned = torch.nn.utils.parameters_to_vector(stage.network.parameters())
    kept = torch.nn.utils.parameters_to_vector(stage.average.parameters())
    assert torch.allclose(kept, before + 0.9 * (learned - before), atol=1e-6)


def test_the_learning_rate_rises_stays_and_falls(stage):
    rates = []
    for stage.step in range(6):
        rates.append(stage.relative_rate())
    assert rates[:4] == [0.5, 1, 1, 1] and rates[5] < 1


@pytest.mark.parametrize("which", ["autoencoder", "denoiser"])
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(
    which, recipe, material, code, text, tmp_path
):
    def make(out):
        if which == "autoencoder":
            return AutoencoderStage(recipe, material, code, tmp_path / out, CPU)
        return DenoiserStage(recipe, material, code, *text, tmp_path / out, CPU)

    log = list(make("whole").run(minutes=5, log_every=1))
    first = make("parts")
    for _ in range(3):
        first.train_step()
    first.save()
    second = make("parts")
    assert second.resume() and second.step == 3
    resumed = list(second.run(minutes=5, log_every=1))
    assert [entry["step"] for entry in resumed] == [entry["step"] for entry in log][3:]
    assert resumed[-1]["loss"] == pytest.approx(log[-1]["loss"], rel=1e-3)


def test_texts_are_read_as_the_pipeline_reads_them(recipe, stage, text):
    pipeline = make_pipeline(make_autoencoder(recipe), stage.average, *text)
    texts = ["a photo of a red boat on sand", ""]
    states, silent = pipeline.encode_prompt(texts, CPU, 1, True)
    assert torch.equal(states, text_states(*text, texts))
    assert torch.equal(silent[0], states[1])


def test_the_class_alone_is_asked_for_as_often_as_colour_and_surface():
    writer = EnglishWriter(np.random.default_rng(0))
    for framing, least in (("portrait", 350), ("wide", 450)):
        shown = facts(toy(), framing=framing)
        written = [caption(writer, shown) for _ in range(1000)]
        assert written.count(class_alone(shown)) > least
        assert written.count(statement(shown)) > least
    assert class_alone(facts(toy("airplane"))) == "a photo of an airplane"
    assert class_alone(facts(toy(), framing="wide")) == "a dog seen from afar"


def test_the_parts_make_a_folder_that_diffusers_reads(recipe, stage, text, tmp_path):
    export(make_pipeline(make_autoencoder(recipe), stage.average, *text), tmp_path / "model")
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "model")
    assert pipeline.safety_checker is None
    wanted = wishes(1)[:3]
    drawn = sample(pipeline, wanted)
    assert drawn.shape == (3, 32, 32, 3) and drawn.dtype == np.uint8
    # each has a seed of its own, whatever the batch
    apart = sample(pipeline, wanted, batch=2).astype(int)
    assert np.abs(apart - drawn).max() <= 1


def test_the_loop_of_stable_diffusion_draws_the_same(recipe, stage, text):
    network = make_autoencoder(recipe).eval()
    pipeline = make_pipeline(network, stage.average, *text)
    wanted = wishes(1)[:1]
    expected = to_signal(torch.from_numpy(sample(pipeline, wanted)))
    scheduler = make_scheduler()
    scheduler.set_timesteps(STEPS)
    states = text_states(*text, ["", statement(wanted[0])])
    latents = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for t in scheduler.timesteps:
            pair = stage.average(torch.cat([latents] * 2), t, encoder_hidden_states=states).sample
            noise = pair[:1] + GUIDANCE * (pair[1:] - pair[:1])
            latents = scheduler.step(noise, t, latents).prev_sample
        drawn = network.decode(latents / SCALE).sample
    assert (to_signal(to_bytes(drawn)).movedim(1, -1) - expected).abs().max() < 0.02


def test_wishes_hold_every_class_and_no_colour_kept_for_tests():
    wanted = wishes(4)
    names = [one["objects"][0]["class"] for one in wanted]
    assert all(names.count(name) == 4 for name in CLASSES)
    colours = [one["objects"][0]["colour"] for one in wanted]
    assert not any(c in EXCEPTIONS[name] for c, name in zip(colours, names, strict=True))
    assert len({statement(one) for one in wanted}) > 50 and wanted == wishes(4)
    for one in wishes(4, usual=True):
        toy = one["objects"][0]
        assert toy["colour"] in PALETTES[toy["class"]]


def test_the_distance_of_normal_distributions():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(4000, 3))
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet(a, a + np.array([2, 0, 0])) == pytest.approx(4, abs=1e-6)
    # of normal distributions with deviations 1 and 3: (3 - 1)^2 along each axis
    assert frechet(a, 3 * a) == pytest.approx(12, rel=0.05)


def test_the_table_has_every_number_that_there_is():
    results = {key + suffix: 0.5 for key in ROWS for suffix in COLUMNS}
    del results["frechet_shuffled"]
    lines = table(results).splitlines()
    assert len(lines) == 2 + len(ROWS)
    assert lines[-1].count("0.500") == 5 and lines[2].count("0.500") == 6


def test_the_distance_has_an_interval_that_shrinks_with_more_pictures():
    rng = np.random.default_rng(0)
    gallery = rng.normal(size=(200, 3))
    widths = []
    for n in (30, 300):
        found = frechet_interval(rng.normal(size=(n, 3)) + np.array([2, 0, 0]), gallery)
        assert found.low < 4 < found.high
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 2
