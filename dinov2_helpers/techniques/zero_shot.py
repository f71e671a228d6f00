"""Pictures named by words, without a label: by a CLIP, or by DINOv2 through a bridge."""

import os
from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from ..clip import Clip
from ..extraction import Embeddings
from ..lit import Lit
from ..models import Model
from .answers import Answers, Classifier
from .bridge import Bridge
from .few_shot import FewShot
from .keeping import load_object, save_object
from .naming import answer_by_names
from .promise import Promise
from .vectors import check_vectors
from .words import TEMPLATES, Templates, check_names, name_vectors, prompts

__all__ = ["TEMPLATES", "Bridge", "FewShot", "ZeroShot", "name_vectors"]

Namer: TypeAlias = Clip | Lit | Bridge
KIND = "zero-shot"


class ZeroShot(Classifier):
    """Names pictures by the texts that are most alike, and may say that none is.

    Nothing is fitted; names are embedded when they are first needed. With "lit-tiny" names may be
    Chinese.

    What "none of these" can find depends on who looks. A `Clip` or a `Lit` has seen more than the
    names, and the cosine to the nearest name tells. A `Bridge` that was fitted on pictures of the
    known names alone takes everything to a mixture of these, so that the cosine does not tell; it
    therefore also asks how far a picture is from those of its fit (`Bridge.familiarity`). On toys
    (benchmarks/quality/zero_shot.py) it still finds fewer unknown ones than CLIP itself or a
    `FewShot`: where finding them matters, take one of these.

    Args:
        clip: What embeds pictures and texts: a `Clip`, a `Lit`, or a `Bridge` that is fitted.
        names: What a picture may show.
        templates: As for `prompts`; by default several for each language, averaged.
        temperature: What cosines are divided by before the softmax; None: the model's own.
        cache: Folder for features, as for `extract_features`.
        progress: As there.

    Attributes:
        texts_: (K, D) float32, a unit vector for each name.
        promise_: The `Promise` behind "none of these"; None before `calibrate`.

    Raises:
        ValueError: No names, doubled ones, impossible templates or temperature.

    Source: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language
    Supervision", section 3.1.

    Example:
        >>> from dinov2_helpers import load_clip, load_scenes
        >>> from dinov2_helpers.techniques import ZeroShot
        >>> toys = load_scenes("test", framing="portrait").images[:3]
        >>> ZeroShot(load_clip("lit-tiny"), ["狗", "猫", "卡车"]).predict(toys).labels
        ('狗', '猫', '卡车')
    """

    def __init__(
        self,
        clip: Namer,
        names: Sequence[str],
        *,
        templates: Templates = TEMPLATES,
        temperature: float | None = None,
        cache: str | os.PathLike[str] | None = None,
        progress: bool | None = None,
    ) -> None:
        check_names(names)
        for name in names:
            prompts(name, templates)  # an impossible template is said now
        if temperature is not None and not temperature > 0:
            raise ValueError(f"temperature={temperature}: it must be above 0, or None")
        self.clip = clip
        self.names = tuple(names)
        self.templates = templates
        self.temperature = temperature
        self.cache = cache
        self.progress = progress

    @property
    def texts_(self) -> NDArray[np.float32]:
        """A unit vector for each name, (K, D), made once."""
        if not hasattr(self, "_texts"):
            self._texts = name_vectors(self.clip, self.names, self.templates)
        return self._texts

    def predict(self, pictures: Any) -> Answers:
        """Name pictures; `familiarity` is the cosine to the best name, or as `Bridge.familiarity`.

        Args:
            pictures: What `extract_features` takes; or their `Embeddings` by the same model, which
                of a `Bridge` are those of its `embed_images`; with a `Bridge`, `Features` too.

        Raises:
            FileNotFoundError, TypeError, ValueError: As `extract_features`.
            ValueError: Embeddings of another width than those of the names, or not finite.
            NotFittedError: A `Bridge` before its `fit`.
        """
        temperature = self.temperature or self.clip.temperature
        found, familiarity = self._embed(pictures), None
        check_vectors(found, self.texts_.shape[1])
        if isinstance(self.clip, Bridge):
            familiarity = self.clip.familiarity(found, self.texts_)
        return answer_by_names(
            found, self.names, self.texts_, temperature, self.promise_, familiarity
        )

    def _embed(self, pictures: Any) -> Embeddings:
        if isinstance(pictures, Embeddings):
            return pictures
        if isinstance(self.clip, Bridge):
            return self.clip.embed_images(pictures)
        options = {"cache": self.cache, "progress": self.progress}
        return self.clip.embed_images(pictures, **options)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write names and threshold into a folder, and the bridge too if there is one.

        Raises:
            OSError: It cannot be written.
        """
        if isinstance(self.clip, Bridge):
            self.clip.save(folder)
        templates = self.templates
        settings = {
            "names": self.names,
            "templates": dict(templates) if hasattr(templates, "keys") else templates,
            "temperature": self.temperature,
            "promise": self.promise_ and vars(self.promise_),
            "bridge": isinstance(self.clip, Bridge),
        }
        arrays = {"texts": self.texts_}
        models = {} if isinstance(self.clip, Bridge) else {"clip": self.clip}
        save_object(folder, KIND, settings, arrays, models)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        dinov2: Model | None = None,
        clip: Clip | Lit | None = None,
    ) -> "ZeroShot":
        """Read what `save` wrote.

        Args:
            folder: The folder.
            dinov2: The model of a bridge; None: that of the recorded name is loaded.
            clip: The same for CLIP.

        Raises:
            KeptError: No names there, or those of another model.
            ModelError: A recorded model cannot be loaded.
        """
        kept = load_object(folder, KIND)
        of = kept.settings
        namer: Namer
        if of.get("bridge"):
            namer = Bridge.load(folder, dinov2, clip)
        else:
            namer = cast(Clip | Lit, kept.model("clip", clip))
        with kept.understood():
            how = {name: of[name] for name in ("templates", "temperature")}
            loaded = cls(namer, of["names"], **how)
            loaded._texts = kept.arrays["texts"]
            loaded.promise_ = Promise(**of["promise"]) if of["promise"] else None
            return loaded
