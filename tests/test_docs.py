"""What the documents say is so: their links, the snippet and the claims of docs/models.md."""

import math
import re
from urllib.parse import unquote

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import conv2d, gelu, interpolate, layer_norm, linear, silu
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
)

from dinov2_helpers import extract_features, load_dinov2, load_scenes
from tools import pairing
from tools.project import Project

PROJECT = Project()
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
IN_LINE = re.compile(r"`[^`\n]*`")
RELATIVE_LINK = re.compile(r"\]\((?![a-z]+:)([^)\s#]+)[^)]*\)")


def links(markdown):
    """The targets of relative links, without anchors; what only looks so in code is none."""
    prose = IN_LINE.sub("", FENCE.sub("", markdown))
    return [unquote(target) for target in RELATIVE_LINK.findall(prose)]


def pages():
    """(file, its Markdown, folder to which its links are relative) of all that readers read."""
    root = PROJECT.root
    documents = [*root.glob("*.md"), root / "notebooks" / "README.md"]
    documents += [*(root / "docs").glob("*.md"), *root.glob("data/**/README.md")]
    for path in sorted(documents):
        yield path, path.read_text(encoding="utf-8"), path.parent
    for stem in PROJECT.stems():
        cells = pairing.read_source(PROJECT, stem).cells
        prose = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        yield PROJECT.source(stem), prose, PROJECT.notebook(stem).parent


def test_links_lead_to_files_of_the_repository():
    dead, found = [], 0
    for path, text, folder in pages():
        for target in links(text):
            found += 1
            file = (folder / target).resolve()
            if not (file.is_file() and file.is_relative_to(PROJECT.root)):
                dead.append(f"{path.name}: {target}")
    assert dead == []
    assert found > 30


def test_what_is_a_relative_link():
    text = (
        'A [page](a.md#part), a ![picture](b%20c.png "title"), the [web](https://example.org),\n'
        "`code[0](x)` and [two](d/e.md) [more](../f.md) links.\n```python\ng[0](h)\n```\n"
    )
    assert links(text) == ["a.md", "b c.png", "d/e.md", "../f.md"]


def test_the_snippet_of_the_models_page_prints_what_it_says(capsys):
    text = (PROJECT.root / "docs" / "models.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    quoted = re.findall(r"^# (.*)$", code, re.MULTILINE)
    exec(compile(code, "<docs/models.md>", "exec"), {})
    assert capsys.readouterr().out.splitlines() == quoted != []


# Meta's forward pass, for docs/models.md, section 2. The equations are those of the vision
# transformer (Dosovitskiy et al. 2021, arXiv 2010.11929) with layer scale (Touvron et al. 2021,
# arXiv 2103.17239), SwiGLU (Shazeer 2020, arXiv 2002.05202) and registers (Darcet et al. 2024,
# arXiv 2309.16588), as facebookresearch/dinov2 combines them in
# dinov2/models/vision_transformer.py and dinov2/layers/. Weights go by the names that they have in
# the published safetensors, the ones before transformers renames them.

PATCH = 14
HEADS = 4
REGISTERS = 4
CLOSE = 1e-5


def positions(table, height, width, *, offset=0.0, antialias=False):
    """`DinoVisionTransformer.interpolate_pos_encoding`: (1, 1 + height * width, D), in patches.

    An `offset` stretches the grid: it makes each side a fraction of a patch longer than asked.
    """
    side = math.isqrt(table.shape[1] - 1)
    if (height, width) == (side, side):
        return table
    if offset:
        wanted = {"scale_factor": ((height + offset) / side, (width + offset) / side)}
    else:
        wanted = {"size": (height, width)}
    grid = table[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    grid = interpolate(grid, mode="bicubic", antialias=antialias, **wanted)
    assert grid.shape[2:] == (height, width)
    return torch.cat((table[:, :1], grid.flatten(2).mT), 1)


def affine(weights, name, x):
    return linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def norm(weights, name, x):
    return layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-6)


def attention(weights, block, x):
    """`Attention.forward`: softmax(q k' / sqrt(d)) v in each head of width d."""
    query, key, value = (
        affine(weights, f"{block}.attention.attention.{name}", x).unflatten(2, (HEADS, -1))
        for name in ("query", "key", "value")
    )
    scores = torch.einsum("nihd,njhd->nhij", query / math.sqrt(query.shape[-1]), key)
    mixed = torch.einsum("nhij,njhd->nihd", scores.softmax(-1), value)
    return affine(weights, f"{block}.attention.output.dense", mixed.flatten(2))


def feed_forward(weights, block, x):
    """`Mlp.forward`, or `SwiGLUFFN.forward` where the block has its weights."""
    if f"{block}.mlp.fc1.weight" in weights:
        return affine(weights, f"{block}.mlp.fc2", gelu(affine(weights, f"{block}.mlp.fc1", x)))
    gate, up = affine(weights, f"{block}.mlp.weights_in", x).chunk(2, -1)
    return affine(weights, f"{block}.mlp.weights_out", silu(gate) * up)


def forward(weights, pixels, **settings):
    """`forward_features` and `get_intermediate_layers`: all tokens of each block after the norm."""
    projection = "embeddings.patch_embeddings.projection"
    kernel, bias = weights[f"{projection}.weight"], weights[f"{projection}.bias"]
    grid = conv2d(pixels, kernel, bias, stride=PATCH)
    cls = weights["embeddings.cls_token"].expand(len(pixels), -1, -1)
    x = torch.cat((cls, grid.flatten(2).mT), 1)
    x = x + positions(weights["embeddings.position_embeddings"], *grid.shape[2:], **settings)
    if "embeddings.register_tokens" in weights:
        registers = weights["embeddings.register_tokens"].expand(len(pixels), -1, -1)
        x = torch.cat((x[:, :1], registers, x[:, 1:]), 1)
    outputs = []
    while f"{(block := f'encoder.layer.{len(outputs)}')}.norm1.weight" in weights:
        update = attention(weights, block, norm(weights, f"{block}.norm1", x))
        x = x + weights[f"{block}.layer_scale1.lambda1"] * update
        update = feed_forward(weights, block, norm(weights, f"{block}.norm2", x))
        x = x + weights[f"{block}.layer_scale2.lambda1"] * update
        outputs.append(x)
    return [norm(weights, "layernorm", x) for x in outputs]


def saved(folder, registers, swiglu):
    """Save a random model with every kind of weight at work; return it loaded, and its file."""
    sizes = {
        "hidden_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": HEADS,
        "image_size": 518,
        "patch_size": PATCH,
        "use_swiglu_ffn": swiglu,
    }
    torch.manual_seed(0)
    if registers:
        kind = Dinov2WithRegistersModel
        model = kind(Dinov2WithRegistersConfig(**sizes, num_register_tokens=REGISTERS))
    else:
        kind = Dinov2Model
        model = kind(Dinov2Config(**sizes))
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.ndim == 2:
                weights.normal_(std=0.15)
            elif "norm" in name or "lambda" in name:
                weights.uniform_(0.5, 1.5)
            else:
                weights.normal_(std=0.3)
    model.save_pretrained(folder)
    return kind.from_pretrained(folder).eval(), load_file(folder / "model.safetensors")


@pytest.fixture(scope="module", params=["MLP", "SwiGLU"])
def plain(request, tmp_path_factory):
    return saved(tmp_path_factory.mktemp("plain"), False, request.param == "SwiGLU")


@pytest.fixture(scope="module", params=["MLP", "SwiGLU"])
def with_registers(request, tmp_path_factory):
    return saved(tmp_path_factory.mktemp("registers"), True, request.param == "SwiGLU")


def largest_difference(model, weights, size, **settings):
    """Between transformers' model and Meta's equations, over all blocks after the norm."""
    pixels = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        blocks = forward(weights, pixels, **settings)
        output = model(pixels, output_hidden_states=True)
        found = [model.layernorm(state) for state in output.hidden_states[1:]]
    assert len(blocks) == len(found) == model.config.num_hidden_layers
    differences = [
        (output.last_hidden_state - blocks[-1]).abs().max(),
        (output.pooler_output - blocks[-1][:, 0]).abs().max(),
        *((ours - theirs).abs().max() for ours, theirs in zip(found, blocks, strict=True)),
    ]
    return max(differences).item()


@pytest.mark.parametrize("size", [(518, 518), (224, 224), (336, 504)], ids=str)
def test_metas_equations_without_registers(plain, size):
    assert largest_difference(*plain, size) < CLOSE
    # The hub's models have this offset, and at their native size it is not used.
    difference = largest_difference(*plain, size, offset=0.1)
    assert difference < CLOSE if size == (518, 518) else difference > 1e-3


@pytest.mark.parametrize("size", [(518, 518), (224, 224), (336, 504)], ids=str)
def test_metas_equations_with_registers(with_registers, size):
    assert largest_difference(*with_registers, size, antialias=True) < CLOSE


def test_without_antialias_registers_would_differ(with_registers):
    assert largest_difference(*with_registers, (224, 224), antialias=False) > 1e-3


def lowest_cosines(one, other):
    """Of CLS and of patches, over all pictures."""
    pairs = ((one.cls, other.cls), (one.patches, other.patches))
    return [
        torch.cosine_similarity(torch.from_numpy(a), torch.from_numpy(b), -1).min().item()
        for a, b in pairs
    ]


def test_the_offset_hardly_moves_the_features_of_the_embedded_model(monkeypatch):
    dinov2 = load_dinov2("tiny", device="cpu")
    scenes = load_scenes("test").images
    pictures = scenes[:: len(scenes) // 4][:4]
    sizes = (112, 196, 518)

    def extract():
        settings = {"fit": "resize", "progress": False}
        return [extract_features(dinov2, pictures, size=size, **settings) for size in sizes]

    def as_meta(tokens, height, width):
        return positions(table, height // PATCH, width // PATCH, offset=0.1)

    before, table = extract(), dinov2.model.embeddings.position_embeddings
    monkeypatch.setattr(dinov2.model.embeddings, "interpolate_pos_encoding", as_meta)
    for size, one, other in zip(sizes, before, extract(), strict=True):
        cls, patches = lowest_cosines(one, other)
        assert 0.999 < cls < 1 - 1e-6, size
        assert 0.996 < patches < 1 - 1e-5, size
