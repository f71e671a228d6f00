"""Interactive explorers: controls above a picture that is drawn anew whenever one changes."""

import base64
from collections.abc import Callable
from typing import Any

import ipywidgets
from matplotlib.figure import Figure

from . import plotting


class Explorer(ipywidgets.VBox):
    """Controls, by name, above the figure that `draw` makes from their values.

    A control without description is labelled by its name, and reports a change once it is done.
    The figure is drawn once at the start, so that a headless run exercises `draw`. That picture,
    with its alternative text, is part of the output: it is what readers without a kernel see.
    """

    def __init__(self, draw: Callable[..., Figure], **controls: Any) -> None:
        self.draw, self.controls = draw, controls
        data, self._metadata = plotting.bundle(self._current())
        (media,) = self._metadata
        self._static = data | {media: base64.b64encode(data[media]).decode()}
        # not an Output widget, whose observers can hang a headless run
        self.picture = ipywidgets.Image(value=data[media], layout={"max_width": "100%"})
        for name, control in controls.items():
            control.description = control.description or name
            control.continuous_update = False
            control.observe(self._update, names="value")
        super().__init__([*controls.values(), self.picture])

    def _current(self) -> Figure:
        return self.draw(**{name: control.value for name, control in self.controls.items()})

    def _update(self, change: Any) -> None:
        self.picture.value = plotting.encode(self._current())[1]

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return super()._repr_mimebundle_(**kwargs) | self._static, self._metadata
