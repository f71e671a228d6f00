"""Small random DINOv2s, a CLIP and a Stable Diffusion in the file layout of the hub; pictures."""

import logging
import os

# Before numpy is imported: OpenBLAS's threads spin while they wait for one another, and on a busy
# machine, where one of them has no core, a fit of ten seconds took five minutes.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextModel,
    CLIPTokenizer,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
)

from dinov2_helpers import course, load_clip, load_dinov2
from dinov2_helpers.cli import main
from tools.standins import CLIP_PREPROCESSOR, PREPROCESSOR, SCHEDULER, write_preprocessor

# Models as small as these are several times slower on more threads, above all on a busy machine.
torch.set_num_threads(1)

SIZES = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "patch_size": 14,
    # 9x9 positions, so that every other size needs them interpolated
    "image_size": 126,
    # larger than usual: different pictures must get clearly different features
    "initializer_range": 0.2,
}


def save(model, folder, preprocessor=PREPROCESSOR):
    model.save_pretrained(folder)
    write_preprocessor(folder, preprocessor)
    return folder


@pytest.fixture(autouse=True)
def one_thread():
    """Start each test on one thread, whatever the one before it has set."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def messages():
    """Show what the package reports as a notebook does, so that `capsys` holds it."""
    course.show_messages()


@pytest.fixture(autouse=True)
def as_talkative_as_before(messages):
    """Undo what a benchmark that was called has silenced."""
    logger = logging.getLogger("dinov2_helpers")
    level = logger.level
    yield
    logger.setLevel(level)
    logging.getLogger(course.LOGGER).propagate = True  # to `caplog`


@pytest.fixture(scope="session")
def dinov2_folder(tmp_path_factory):
    """Folder of a random Dinov2Model: config.json, preprocessor_config.json, model.safetensors."""
    torch.manual_seed(0)
    return save(Dinov2Model(Dinov2Config(**SIZES)), tmp_path_factory.mktemp("models") / "plain")


@pytest.fixture(scope="session")
def registers_folder(tmp_path_factory):
    """The same of a Dinov2WithRegistersModel with 4 registers, which differ from each other."""
    torch.manual_seed(1)
    model = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**SIZES, num_register_tokens=4))
    torch.nn.init.normal_(model.embeddings.register_tokens)
    return save(model, tmp_path_factory.mktemp("models") / "registers")


@pytest.fixture(scope="session")
def dinov2(dinov2_folder):
    return load_dinov2(dinov2_folder, device="cpu")


@pytest.fixture(scope="session")
def dinov2_with_registers(registers_folder):
    return load_dinov2(registers_folder, device="cpu")


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    """Folder of a random CLIPModel with a tokenizer that knows letters and a few of their pairs."""
    torch.manual_seed(2)
    letters = "abcdefghijklmnopqrstuvwxyz,.!"
    merges = [("c", "a"), ("ca", "t</w>"), ("d", "o"), ("do", "g</w>")]
    words = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        *("".join(pair) for pair in merges),
    ]
    vocabulary = {word: i for i, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=16)
    tower = {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "initializer_range": 0.2,
    }
    text = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 16,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {"image_size": 112, "patch_size": 16, "num_hidden_layers": 3}
    config = CLIPConfig(text_config=tower | text, vision_config=tower | vision, projection_dim=24)
    folder = tmp_path_factory.mktemp("models") / "clip"
    tokenizer.save_pretrained(folder)
    return save(CLIPModel(config), folder, CLIP_PREPROCESSOR | {"crop_size": 112, "size": 112})


@pytest.fixture(scope="session")
def clip(clip_folder):
    return load_clip(clip_folder, device="cpu")


@pytest.fixture(scope="session")
def diffusion_folder(clip_folder, tmp_path_factory):
    """Folder of a random pipeline in the layout of Stable Diffusion 1.5: latents 4 x 8 x 8."""
    torch.manual_seed(3)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 32, 64, 64),
        layers_per_block=1,
        cross_attention_dim=48,
        attention_head_dim=8,
    )
    levels = 4
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=(8,) * levels,
        norm_num_groups=4,
        sample_size=64,
    )
    parts = {
        "vae": vae,
        "unet": unet,
        "text_encoder": CLIPTextModel.from_pretrained(clip_folder),
        "tokenizer": CLIPTokenizer.from_pretrained(clip_folder),
        "scheduler": PNDMScheduler(**SCHEDULER),
        **dict.fromkeys(("safety_checker", "feature_extractor")),
    }
    folder = tmp_path_factory.mktemp("models") / "diffusion"
    StableDiffusionPipeline(**parts, requires_safety_checker=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def picture():
    """Return a function that draws a smooth random picture of a size, RGB."""

    def draw(width, height, seed=0):
        coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
        return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)

    return draw


@pytest.fixture
def cli(capsys, dinov2_folder):
    """Return a function that runs the command with a small model: status, stdout, stderr."""

    def call(*arguments, model=True):
        chosen = ["--model", str(dinov2_folder), "--device", "cpu"] if model else []
        status = main([*chosen, *map(str, arguments)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


@pytest.fixture
def pictures(tmp_path, picture):
    """A folder of three pictures, one of them in a folder of its own."""
    folder = tmp_path / "holiday"
    (folder / "sea").mkdir(parents=True)
    for seed, name in enumerate(["a.png", "b c.png", "sea/d.png"]):
        picture(64 + 8 * seed, 48, seed).save(folder / name)
    return folder
