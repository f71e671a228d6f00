"""Interactive explorers: controls above a picture that is drawn anew whenever one changes."""

import base64
import html
from collections.abc import Callable
from typing import Any

import ipywidgets
from matplotlib.figure import Figure

from . import plotting

_VIEW = "application/vnd.jupyter.widget-view+json"
# ipywidgets' pictures have no alternative text, so it stands beside them for those who cannot see
_UNSEEN = "position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%)"


class Explorer(ipywidgets.VBox):
    """Controls, by name, above the figure that `draw` makes from their values.

    A control without description is labelled by its name, and reports a change once it is done.
    The figure is drawn once at the start, so that a headless run exercises `draw`. That picture,
    with its alternative text, is part of the output: it is what readers without a kernel see.
    If a later `draw` raises, the last picture stays, with the error below it.
    """

    # ipywidgets 7, which Colab has, shows a widget by this method, and without a picture. Not a
    # method, it is passed over for `_repr_mimebundle_`
    _ipython_display_ = None

    def __init__(self, draw: Callable[..., Figure], **controls: Any) -> None:
        self.draw, self.controls = draw, controls
        figure = self._current()
        data, self._metadata = plotting.bundle(figure)
        (media,) = self._metadata
        self._static = data | {media: base64.b64encode(data[media]).decode()}
        # not an Output widget, whose observers can hang a headless run
        self.picture = ipywidgets.Image(
            value=data[media],
            layout={"max_width": "100%", "align_self": "flex-start"},  # never enlarged
        )
        self.message = ipywidgets.HTML(_unseen(figure))
        for name, control in controls.items():
            control.description = control.description or name
            control.style.description_width = "initial"  # as wide as the text
            control.layout.width = control.layout.width or "480px"
            control.layout.max_width = "100%"
            control.continuous_update = False
            control.observe(self._update, names="value")
        super().__init__([*controls.values(), self.picture, self.message])

    def _current(self) -> Figure:
        return self.draw(**{name: control.value for name, control in self.controls.items()})

    def _update(self, change: Any) -> None:
        try:
            figure = self._current()
            self.picture.value = plotting.encode(figure)[1]
        except Exception as error:
            reason = html.escape(f"{type(error).__name__}: {error}")
            self.message.value = f"<b>Not drawn; the picture is the last one.</b> {reason}"
            raise
        self.message.value = _unseen(figure)

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return self._static | {_VIEW: view}, self._metadata


def _unseen(figure: Figure) -> str:
    """Return a figure's alternative text as HTML that screen readers tell and nobody sees."""
    return f'<div role="status" style="{_UNSEEN}">{html.escape(str(figure.get_label()))}</div>'
