"""A locked-image text tower: texts as vectors of the space of a DINOv2 that never saw a text.

LiT (Zhai et al. 2022, arXiv 2111.07991) trains a text encoder on pictures' features that stay as
they are; dino.txt (Jose et al. 2024, arXiv 2412.16334) does so on DINOv2's class token beside the
mean of its patch tokens. A folder in this format holds the text encoder and a small head for the
pictures, and names the DINOv2 that it was trained on, by the SHA-256 of its weights: on any other
its vectors would mean nothing.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .data import data_dir
from .extraction import Embeddings, Skipped, extract_features, fingerprint, stream_features
from .hashes import sha256_of
from .models import Device, Dtype, Model, ModelError, load_dinov2
from .models.vocabulary import spelt_out
from .pictures.files import LeftOut, printable
from .writing import home_path

if TYPE_CHECKING:
    from torch import Tensor

MODEL_TYPE = "lit"
WEIGHTS = "model.safetensors"
LISTED = 20  # pictures that a message names
TEXT, HEAD, PLACES = "text.", "head.", "places."  # what the names of the weights begin with


def sha256_of_weights(folder: Path) -> str:
    """Return the SHA-256 of the weights of a model in a folder, as ``sha256sum`` prints it."""
    return sha256_of(folder / WEIGHTS)


def project(head: Mapping[str, "Tensor"], features: "Tensor") -> "Tensor":
    """Bring what DINOv2 gives into the common space.

    Features are standardised by mean and deviation of those of the training pictures and mapped
    linearly; a hidden layer beside the linear map adds what that cannot.

    Args:
        head: Its weights, by name.
        features: Class token and mean patch side by side ``(..., 2 * dim)``, or patches
            ``(..., dim)``, as the head expects.

    Returns:
        Unit vectors ``(..., D)``.
    """
    import torch.nn.functional as F

    standard = (features - head["mean"]) / head["deviation"]
    hidden = F.gelu(F.linear(standard, head["hidden.weight"], head["hidden.bias"]))
    mapped = F.linear(standard, head["linear.weight"])
    return F.normalize(mapped + F.linear(hidden, head["out.weight"]), dim=-1)


@dataclass(frozen=True, repr=False)
class Lit:
    """A text encoder and the frozen DINOv2 that it was trained for."""

    dinov2: Model
    text: Any  # transformers' CLIPTextModelWithProjection, in evaluation mode
    tokenizer: Any
    head: Mapping[str, "Tensor"]  # see `project`; float32, on the device of the models
    places: Mapping[str, "Tensor"]  # the same for single patches; empty where none was trained
    name: str  # of the folder
    dim: int  # of the common space
    temperature: float  # what it divides cosines by before the softmax, learned in its training

    def __repr__(self) -> str:
        millions = sum(p.numel() for p in self.text.parameters()) / 1e6
        return f"{self.name}: text tower of {millions:.1f} M parameters on {self.dinov2.describe()}"

    def embed_texts(self, texts: Iterable[str], *, batch_size: int = 256) -> NDArray[np.float32]:
        """Return the embeddings of N texts, ``(N, D)`` float32, unit length.

        Args:
            texts: One text or many, in English or Chinese; others are spelt and mean nothing.
            batch_size: Number of texts that are read at once.

        Raises:
            ValueError: There is no text, or one has more tokens than the model can read.

        Example:
            >>> lit.embed_texts(["a photo of a dog", "一只狗的照片"]).shape  # doctest: +SKIP
            (2, 128)
        """
        import torch

        listed = [texts] if isinstance(texts, str) else list(texts)
        if not listed:
            raise ValueError("no text to embed")
        limit = self.text.config.max_position_embeddings
        vectors = []
        for start in range(0, len(listed), batch_size):
            batch = listed[start : start + batch_size]
            tokens = self.tokenizer(batch, padding=True, return_tensors="pt", verbose=False)
            length, longest = tokens["attention_mask"].sum(1).max(0)
            if length > limit:
                raise ValueError(f"{batch[longest]!r} has {length} tokens, more than {limit}")
            with torch.inference_mode():
                found = self.text(**tokens.to(self.text.device)).text_embeds.float()
            vectors.append(torch.nn.functional.normalize(found, dim=-1).cpu().numpy())
        return np.concatenate(vectors)

    def spelt_out(self, text: str) -> list[str]:
        """Return the words of a text that the model was hardly taught: see `spelt_out`."""
        return spelt_out(self.tokenizer, text)

    def embed_images(self, images: Any, **options: Any) -> Embeddings:
        """Return the embeddings of N pictures, ``(N, D)``, without those that cannot be read.

        Args:
            images: As for `extract_features`.
            **options: `size`, `fit`, `exact`, `batch_size`, `cache`, `progress` of
                `extract_features`.

        Raises:
            ValueError: No picture can be read.
        """
        vectors: list[NDArray[np.float32]] = []
        index: list[NDArray[np.int64]] = []
        names: list[str] = []
        skipped: list[Skipped] = []
        left_out: tuple[LeftOut, ...] = ()
        # by chunks, for the patches of all pictures together may not fit into memory
        for found in stream_features(self.dinov2, images, **options):
            vectors.append(self._project(self.head, found.pooled("both")))  # (n, 2 * dim) -> (n, D)
            index.append(found.index)
            names += found.names
            skipped += found.skipped
            left_out = found.left_out
        if not names:
            raise _no_picture(skipped)
        return Embeddings(
            np.concatenate(vectors), np.concatenate(index), tuple(names), tuple(skipped), left_out
        )

    def embed_patches(
        self, images: Any, **options: Any
    ) -> NDArray[np.float32] | list[NDArray[np.float32]]:
        """Return one vector for each patch, to be compared with those of texts.

        A head of its own reads single patches, without the class token: with it, every patch
        would be named as the whole picture is. It learned from captions, not from masks
        (`training.lit.places`).

        Args:
            images: As for `extract_features`.
            **options: As for `embed_images`.

        Returns:
            Unit vectors ``(N, h, w, D)`` float32; a list of N arrays ``(h, w, D)`` where the
            pictures have different grids. Pictures that cannot be read have no row: a warning of
            the logger "dinov2_helpers" names them.

        Raises:
            ValueError: The model has no head for patches, or no picture can be read.
        """
        if not self.places:
            raise ValueError(
                f"{self.name} has no head for patches. Train one: python -m training.lit.places"
            )
        found = extract_features(self.dinov2, images, patches=True, **options)
        assert found.patches is not None  # they were asked for
        maps = [self._project(self.places, patches) for patches in found.patches]
        same = len({one.shape for one in maps}) == 1
        return np.stack(maps) if same else maps

    def fingerprint(self) -> str:
        """Return a SHA-256 in hexadecimal of all that its embeddings depend on."""
        digest = hashlib.sha256(fingerprint(self.dinov2).encode())
        for prefix, tensors in (
            (TEXT, self.text.state_dict()),
            (HEAD, self.head),
            (PLACES, self.places),
        ):
            for name, tensor in sorted(tensors.items()):
                digest.update(f"{prefix}{name}".encode())
                digest.update(tensor.detach().float().cpu().numpy().tobytes())
        return digest.hexdigest()

    def _project(self, head: Mapping[str, "Tensor"], features: NDArray[Any]) -> NDArray[np.float32]:
        import torch

        tensor = torch.from_numpy(np.asarray(features, np.float32)).to(head["mean"].device)
        with torch.inference_mode():
            return project(head, tensor).cpu().numpy()


def _no_picture(skipped: Sequence[Skipped]) -> ValueError:
    """Return the error that names the pictures of which none could be embedded."""
    reasons = "; ".join(f"{printable(one.name)}: {one.reason}" for one in skipped[:LISTED])
    return ValueError(f"no picture to embed; {len(skipped)} skipped. {reasons}")


def load_lit(folder: str | Path, *, device: Device = None, dtype: Dtype = None) -> Lit:
    """Load a text tower and the DINOv2 that it stands on.

    That is looked for beside the folder and among the embedded models.

    Args:
        folder: With `config.json`, `model.safetensors` and the files of a tokenizer.
        device: As for `load_dinov2`.
        dtype: As for `load_dinov2`; the head is always computed in float32.

    Raises:
        ModelError: The folder is incomplete or holds another kind of model, or the DINOv2 is
            missing or has other weights than in training.
    """
    from safetensors import SafetensorError

    path = home_path(folder)
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ModelError(f"{path}: config.json holds no object of settings")
        kind = config.get("model_type")
        if kind != MODEL_TYPE:
            raise ModelError(f"{path}: its model_type is {kind!r}, not {MODEL_TYPE!r}")
        wanted = config["dinov2"]
        base = _find_dinov2(path, wanted["name"], wanted["sha256"])
        dinov2 = load_dinov2(base, device=device, dtype=dtype)
        return _assemble(path, config, dinov2)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be loaded as a text tower: {error!r}") from error


def _find_dinov2(path: Path, name: str, sha256: str) -> Path:
    """Find the DINOv2 that a text tower stands on, and see that it has the right weights."""
    places = [path.resolve().parent / name, data_dir() / "models" / name]
    found = [place for place in places if (place / WEIGHTS).is_file()]
    if not found:
        raise ModelError(f"{path} stands on {name}, which is not in {places[0]} or {places[1]}")
    for place in found:
        if sha256_of_weights(place) == sha256:
            return place
    raise ModelError(
        f"{path} stands on a {name} whose weights have the SHA-256 {sha256}; those of "
        f"{found[0]} are others, on which its vectors mean nothing. Train it again on these: "
        "python -m training.lit.train"
    )


def _assemble(path: Path, config: dict[str, Any], dinov2: Model) -> Lit:
    """Read tokenizer and weights of a text tower."""
    from safetensors.torch import load_file
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

    tokenizer: Any = CLIPTokenizer.from_pretrained(path)
    text: Any = CLIPTextModelWithProjection(CLIPTextConfig(**config["text_config"]))
    # without its files, transformers makes up a tokenizer that knows two tokens
    if not 2 < len(tokenizer) <= text.config.vocab_size:
        raise ValueError("its tokenizer is missing or that of another model")
    weights = load_file(path / WEIGHTS)
    not_finite = sorted(name for name, tensor in weights.items() if not tensor.isfinite().all())
    if not_finite:
        raise ValueError(f"these weights are not finite: {', '.join(not_finite)}")
    text.load_state_dict(_part(weights, TEXT))
    single = {name: tensor.float().to(dinov2.device) for name, tensor in weights.items()}
    common = text.config.projection_dim
    _check_head(_part(single, HEAD), 2 * dinov2.dim, common)
    if _part(single, PLACES):
        _check_head(_part(single, PLACES), dinov2.dim, common)
    return Lit(
        dinov2=dinov2,
        text=text.to(dinov2.device, dinov2.dtype).eval().requires_grad_(False),
        tokenizer=tokenizer,
        head=_part(single, HEAD),
        places=_part(single, PLACES),
        name=path.resolve().name,
        dim=text.config.projection_dim,
        temperature=float(1 / weights["logit_scale"].float().exp()),
    )


def _check_head(head: Mapping[str, "Tensor"], dim: int, common: int) -> None:
    """Raise a ValueError unless `project` can map features of this size to the common space."""
    hidden = len(head["hidden.bias"])
    shapes = {
        "mean": (dim,),
        "deviation": (dim,),
        "linear.weight": (common, dim),
        "hidden.weight": (hidden, dim),
        "hidden.bias": (hidden,),
        "out.weight": (common, hidden),
    }
    found = {name: tuple(tensor.shape) for name, tensor in head.items()}
    if found != shapes:
        raise ValueError(f"its head has the weights {found}, not {shapes}")


def find_lit(name_or_path: Any) -> Path | None:
    """Return the folder of a text tower, one's own or an embedded one by name; None: it is none."""
    if name_or_path is None:
        return None
    own, embedded = home_path(name_or_path), data_dir() / "models" / name_or_path
    for folder in (own, embedded):
        config = folder / "config.json"
        if config.is_file() and f'"{MODEL_TYPE}"' in config.read_text(encoding="utf-8"):
            return folder
    return None


def _part(weights: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the weights whose names begin with a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
