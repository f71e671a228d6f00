"""Interactive explorers: controls above a picture that is drawn anew whenever one changes."""

import base64
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from . import plotting
from .plotting import Array
from .samples import Scenes


class Explorer(ipywidgets.VBox):
    """Controls, by name, above the figure that `draw` makes from their values.

    It is drawn once at the start, so that a headless run exercises `draw`. That picture, with its
    alternative text, is part of the output: it is what readers without a kernel see, as on GitHub.
    """

    def __init__(self, draw: Callable[..., Figure], **controls: Any) -> None:
        self.draw, self.controls = draw, controls
        data, self._metadata = plotting.bundle(self._current())
        (media,) = self._metadata
        self._static = data | {media: base64.b64encode(data[media]).decode()}
        # not an Output widget, whose observers can hang a headless run
        self.picture = ipywidgets.Image(value=data[media], layout={"max_width": "100%"})
        for control in controls.values():
            control.observe(self._update, names="value")
        super().__init__([*controls.values(), self.picture])

    def _current(self) -> Figure:
        return self.draw(**{name: control.value for name, control in self.controls.items()})

    def _update(self, change: Any) -> None:
        self.picture.value = plotting.encode(self._current())[1]

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return super()._repr_mimebundle_(**kwargs) | self._static, self._metadata


def _slider(name: str, value: int, size: int) -> ipywidgets.IntSlider:
    return ipywidgets.IntSlider(value, 0, size - 1, description=name, continuous_update=False)


def similarity_explorer(scenes: Scenes, vectors: Array, *, k: int = 7) -> Explorer:
    """Choose one of N pictures and see its k neighbours by cosine similarity of vectors (N, D)."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def draw(query: int) -> Figure:
        similarity = unit @ unit[query]
        similarity[query] = -np.inf  # it is not its own neighbour
        nearest = np.argsort(-similarity)[:k]
        return plotting.show_images(
            [scenes.image(i) for i in (query, *nearest)],
            titles=[f"picture {query}", *(f"{similarity[i]:.2f}" for i in nearest)],
            alt=f"Picture {query} and its {k} nearest neighbours with their cosine similarity",
        )

    return Explorer(draw, query=_slider("query", 0, len(scenes)))


def correspondence_explorer(
    images: Sequence[Image.Image], patches: Sequence[Array], start: tuple[int, int] | None = None
) -> Explorer:
    """Choose a patch of one picture, by row and column, and see where the other is similar.

    `images` are two whole pictures and `patches` their features, (h, w, D) each. `start` is the
    first row and column; None: the middle.
    """
    grids = [p / np.linalg.norm(p, axis=-1, keepdims=True) for p in patches]

    def draw(row: int, column: int) -> Figure:
        heat = grids[1] @ grids[0][row, column]
        best = np.unravel_index(heat.argmax(), heat.shape)
        figure = plotting.show_images(
            [images[0], plotting.overlay(images[1], heat, limits=(0, 1))],
            titles=["chosen patch", f"cosine similarity, at most {heat.max():.2f}"],
            alt=f"Patch ({row}, {column}) of a picture, and how similar the other one is to it",
        )
        square = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]])
        places = ((row, column), best)
        for ax, image, grid, at in zip(figure.axes, images, grids, places, strict=True):
            corners = (square + at[::-1]) * image.size / grid.shape[1::-1] - 0.5
            ax.plot(*corners.T, color=plotting.COLOURS[1], lw=3)
        return figure

    rows, columns = grids[0].shape[:2]
    row, column = start or (rows // 2, columns // 2)
    return Explorer(draw, row=_slider("row", row, rows), column=_slider("column", column, columns))
