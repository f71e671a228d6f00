"""Names of things as vectors of a space that pictures share: templates, and their mean."""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .vectors import unit

Templates: TypeAlias = Sequence[str] | Mapping[str, Sequence[str]]

TEMPLATES: Mapping[str, Sequence[str]] = {
    "en": ("{a}", "a photo of {a}", "a picture of {a}", "a render of {a}", "there is {a}"),
    "zh": ("{}", "{}的照片", "{}的图片", "这是{}", "画面里有{}"),
}
"""What names are put into, by language: `{}` is the name, `{a}` the name with "a" or "an"."""


class EmbedsTexts(Protocol):
    """A model that reads: a `Clip`, a `Lit`, a `Bridge`."""

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the embeddings of N texts, (N, D), unit length."""


def with_article(name: str) -> str:
    """Return an English name with "a" or "an" before it, if it has no article yet.

    Example:
        >>> with_article("airplane"), with_article("the Eiffel Tower")
        ('an airplane', 'the Eiffel Tower')
    """
    if name.lower().startswith(("a ", "an ", "the ", "some ")):
        return name
    return f"{'an' if name[:1].lower() in tuple('aeiou') else 'a'} {name}"


def language_of(name: str) -> str:
    """Return "zh" for a name with a Chinese character, else "en"."""
    return "zh" if any("\u4e00" <= character <= "\u9fff" for character in name) else "en"


def prompts(name: str, templates: Templates = TEMPLATES) -> list[str]:
    """Put a name into the templates of its language.

    Args:
        name: What a picture may show, such as "dog" or "狗".
        templates: Texts with `{}` or `{a}` in them; or such texts for "en" and for "zh".

    Raises:
        ValueError: No template for the language of the name, or one without a place for it.

    Example:
        >>> prompts("owl", ["{}", "a photo of {a}"])
        ['owl', 'a photo of an owl']
    """
    if isinstance(templates, Mapping):
        language = language_of(name)
        if not templates.get(language):
            raise ValueError(f"templates for {[*templates]} and none for {language!r}: {name!r}")
        templates = templates[language]
    chosen = [templates] if isinstance(templates, str) else list(templates)
    if not chosen:
        raise ValueError("templates is empty: give ['{}'] for the bare names")
    for template in chosen:
        if "{}" not in template and "{a}" not in template:
            raise ValueError(f"template {template!r} has no {{}} or {{a}} where the name belongs")
    return [template.replace("{a}", with_article(name)).replace("{}", name) for template in chosen]


def name_vectors(
    model: EmbedsTexts, names: Sequence[str], templates: Templates = TEMPLATES
) -> NDArray[np.float32]:
    """Return one unit vector for each name, (K, D): the mean over its templates.

    Means over templates are better than the best of them (Radford et al. 2021, section 3.1.4).

    Args:
        model: What embeds texts: a CLIP, a locked-image text tower, a `Bridge`.
        names: What pictures may show, at least one, each once.
        templates: As for `prompts`.

    Raises:
        ValueError: No name, an empty or doubled one, or impossible templates.
    """
    check_names(names)
    filled = [prompts(name, templates) for name in names]
    texts = [text for one in filled for text in one]
    vectors = model.embed_texts(texts)  # (all texts, D)
    ends = np.cumsum([len(one) for one in filled])[:-1]
    return unit(np.stack([part.mean(0) for part in np.split(vectors, ends)]))


def check_names(names: Sequence[str]) -> None:
    """Raise a ValueError that says what is wrong with names."""
    if isinstance(names, str):
        raise ValueError(f"names={names!r} is one text: give a list of names")
    if not len(names):
        raise ValueError("names is empty: say what the pictures may show")
    unusable = [name for name in names if not isinstance(name, str) or not name.strip()]
    if unusable:
        raise ValueError(f"names holds {unusable[0]!r}, which is no name")
    doubled = sorted({name for name in names if list(names).count(name) > 1})
    if doubled:
        raise ValueError(f"names holds {doubled[0]!r} more than once")
