"""Captions, tokenizer, loss and bookkeeping of the training of the embedded CLIP."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dinov2_helpers import load_clip
from training.captions import vocabulary
from training.clip.config import CLIP_MEAN, CLIP_STD, Recipe
from training.clip.material import STORED, Pairs
from training.clip.model import Guide
from training.clip.tokenizer import make_tokenizer
from training.clip.train import Training, contrastive_loss, export
from training.command_line import chosen_recipe, parser, write_log
from training.world.colours import COLOURS
from training.world.material import a_toy
from training.world.toys import EXCEPTIONS, PALETTES

pytestmark = pytest.mark.computes


def toy(name="dog", colour="red", x=100.0, flying=False):
    return {"class": name, "colour": colour, "flying": flying, "x": x}


def facts(*objects, framing="wide", surface="grass"):
    return {"surface": surface, "framing": framing, "objects": list(objects)}


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer(vocabulary("en", "zh"))


@pytest.fixture
def recipe():
    return Recipe(
        width=24, depth=2, heads=2, side=32, patch=16, text_width=16, text_depth=1, text_heads=2,
        dim=8, guide_width=8, guide_phases=((2, 16, 4), (1, 32, 4)), steps=3, batch=4,
    )  # fmt: skip


@pytest.fixture
def material(tmp_path):
    rng = np.random.default_rng(0)
    for name, shape in (("toys", (6, 2, 40, 40, 3)), ("multi", (6, 40, 40, 3))):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "00000.npy", rng.integers(0, 256, shape, dtype=np.uint8))
    cells = [(name, colour) for name in ("dog", "car", "cat") for colour in ("red", "blue")]
    single = [{"views": [facts(toy(*cell))] * 2} for cell in cells]
    several = [facts(toy("cat", "blue", 30.0), toy("boat", "red", 190.0))] * 6
    for name, rows in (("toys", single), ("multi", several)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / name / "00000.jsonl").write_text(lines, encoding="utf-8")
    return tmp_path


def test_every_word_and_character_is_one_token(tokenizer):
    known = set(vocabulary("en", "zh"))
    assert {"dog", "scarf", "狗", "色", "，"} <= known
    for word in known:
        assert len(tokenizer.tokenize(word)) == 1, word
    assert len(tokenizer.tokenize("一只红色的狗")) == 6


def test_a_tokenizer_survives_its_folder_and_spells_what_it_does_not_know(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = type(tokenizer).from_pretrained(tmp_path)
    text = "A photo of two ZEBRAS on 草地, said Zoë"
    assert again(text).input_ids == tokenizer(text).input_ids
    assert again.decode(again(text).input_ids, skip_special_tokens=True) == (
        "a photo of two zebras on 草地, said zoë"
    ).replace(",", " ,")


def test_equal_captions_share_their_pictures():
    generator = torch.Generator().manual_seed(0)
    images, texts = (F.normalize(torch.randn(3, 4, generator=generator), dim=1) for _ in range(2))
    scale = torch.tensor(5.0)
    logits = (scale * images @ texts.T).log_softmax(1), (scale * texts @ images.T).log_softmax(1)
    shared = torch.tensor([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]])
    for captions_, targets in ((["a", "a", "b"], shared), (["a", "b", "c"], torch.eye(3))):
        expected = -sum((targets * part).sum(1).mean() for part in logits) / 2
        loss = contrastive_loss(images, texts, scale, captions_).item()
        assert loss == pytest.approx(expected.item(), rel=1e-5)


def test_varied_toys_wear_no_colour_kept_for_tests():
    for name in ("dog", "house", "fish"):
        usual = {a_toy(name, seed, any_colour=0.0).colour for seed in range(30)}
        varied = {a_toy(name, seed, any_colour=0.5).colour for seed in range(60)}
        crossed = {a_toy(name, seed, any_colour=1.0).colour for seed in range(120)}
        assert usual <= set(PALETTES[name])
        assert varied - set(PALETTES[name])
        assert crossed == set(COLOURS) - set(EXCEPTIONS[name])
        assert not varied & set(EXCEPTIONS[name])


def test_pairs_hold_one_fact_per_picture(material):
    pairs = Pairs(material, torch.device("cpu"))
    assert pairs.pictures.shape == (18, 3, STORED, STORED)
    assert len(pairs.facts) == len(pairs) == 18
    assert [len(one["objects"]) for one in pairs.facts] == [1] * 12 + [2] * 6
    with pytest.raises(FileNotFoundError, match=r"training\.world\.material"):
        Pairs(material / "nothing", torch.device("cpu"))


def test_the_first_pictures_of_a_batch_are_grey_and_so_are_their_captions(
    recipe, material, tmp_path
):
    training = Training(dataclasses.replace(recipe, grey=0.5), material, tmp_path / "run", "cpu")
    pixels, texts = training.draw()
    colours = pixels * torch.tensor(CLIP_STD).view(3, 1, 1) + torch.tensor(CLIP_MEAN).view(3, 1, 1)
    spread = (colours.amax(1) - colours.amin(1)).amax((1, 2))
    assert (spread[:2] < 1e-5).all() and (spread[2:] > 0.05).all()
    assert not {"red", "blue"} & set(" ".join(texts[:2]).split())


def test_a_guide_has_a_map_of_sixteenths():
    embedding, maps = Guide(8, 8).eval()(torch.zeros(2, 3, 64, 64))
    assert embedding.shape == (2, 8)
    assert maps.shape == (2, 64, 4, 4)


@pytest.mark.parametrize("width", [0, 4, 12])
def test_a_guide_refuses_widths_that_break_memory_on_some_cpus(width):
    with pytest.raises(ValueError, match=f"width={width}.*multiple of 8"):
        Guide(width, 8)


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(recipe, material, tmp_path):
    whole = Training(recipe, material, tmp_path / "whole", "cpu")
    log = list(whole.run(minutes=5, log_every=100))
    assert [entry["stage"] for entry in log] == ["guide", "transformer"]

    first = Training(recipe, material, tmp_path / "parts", "cpu")
    for _ in range(4):
        first.train_step()
    first.save()
    second = Training(recipe, material, tmp_path / "parts", "cpu")
    assert second.resume() and second.step == 4
    resumed = list(second.run(minutes=5, log_every=100))
    for name in ("step", "contrast", "whole", "patches"):
        assert resumed[-1][name] == pytest.approx(log[-1][name], rel=1e-3)


def test_the_guide_learns_first_and_then_stands_still(recipe, material, tmp_path):
    training = Training(recipe, material, tmp_path / "run", "cpu")

    def values():
        parts = {"guide": training.guide, "vision": training.clip.vision_model}
        parts["text"] = training.clip.text_model
        return {k: torch.cat([p.detach().flatten() for p in m.state_dict().values()]).clone()
                for k, m in parts.items()}  # fmt: skip

    start = values()
    for _ in range(3):
        training.train_step()
    middle = values()
    assert torch.equal(start["vision"], middle["vision"])
    assert not torch.equal(start["guide"], middle["guide"])
    assert not torch.equal(start["text"], middle["text"])
    for _ in range(3):
        training.train_step()
    end = values()
    assert torch.equal(middle["guide"], end["guide"])
    assert not torch.equal(middle["vision"], end["vision"])


def test_the_exported_folder_is_what_load_clip_reads(recipe, material, tmp_path, capsys):
    training = Training(dataclasses.replace(recipe, steps=1), material, tmp_path / "run", "cpu")
    export(training.clip, training.tokenizer, tmp_path / "model")
    clip = load_clip(tmp_path / "model", device="cpu")
    assert clip.image_size == 32 and clip.dim == 8
    assert clip.temperature >= 0.01 - 1e-6
    vectors = clip.embed_images(np.zeros((2, 40, 60, 3), np.uint8)).vectors
    assert vectors.shape == (2, 8)
    assert np.allclose(np.linalg.norm(clip.embed_texts(["a dog"]), axis=1), 1, atol=1e-5)


def test_the_command_line_changes_the_recipe_and_keeps_the_log(recipe, tmp_path, capsys):
    recipes = {"cpu": recipe, "gpu": dataclasses.replace(recipe, seed=5)}
    options = parser("Train.\nMore.", recipes, "pairs", "runs", log_every=7)
    assert options.parse_args([]).recipe == "cpu"
    arguments = options.parse_args(["--recipe", "gpu", "--steps", "9"])
    changed = chosen_recipe(arguments, recipes)
    assert (changed.steps, changed.seed, arguments.log_every) == (9, 5, 7)
    for step in (1, 2):
        write_log(tmp_path, [{"step": step}])
    lines = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
    assert capsys.readouterr().out.splitlines() == lines
