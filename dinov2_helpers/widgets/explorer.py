"""Controls above a picture that is drawn anew whenever one of them changes."""

import asyncio
import html
from collections.abc import Callable
from typing import Any

import ipywidgets
from IPython.display import display
from matplotlib.figure import Figure

from .. import plotting

PAUSE = 0.3
"""Seconds without a key before what is being typed is answered."""

# what a screen reader tells and nobody sees
_UNSEEN = "position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%)"


class Explorer:
    """Controls, by name, above the figure that `draw` makes from their values.

    A control without description is labelled by its name. A text is answered while it is typed,
    after a short pause; other controls report a change once it is done. The figure is drawn once at
    the start, so that a headless run exercises `draw`.

    The picture is an output of the cell like any other, with its alternative text: it is what a
    saved notebook keeps, as it was drawn last, and what readers without a kernel see. If a later
    `draw` or `hint` raises, the last picture stays, and the error is said above it.

    Args:
        draw: Makes a figure from the values of the controls, which it gets by their names.
        hint: Makes a sentence from the same values that is shown above the picture; "" for none.
        controls: Widgets with a `value`: those of ipywidgets, `Spot`, `Scratch`.

    Example:
        >>> import ipywidgets, numpy
        >>> from dinov2_helpers import plotting
        >>> def draw(grey):
        ...     return plotting.show_images([numpy.full((8, 8), grey)], alt=f"a square, {grey}")
        >>> Explorer(draw, grey=ipywidgets.FloatSlider(0.5, min=0, max=1)).alt
        'a square, 0.5'
    """

    def __init__(
        self,
        draw: Callable[..., Figure],
        *,
        hint: Callable[..., str] | None = None,
        **controls: Any,
    ) -> None:
        self.draw, self.hint, self.controls = draw, hint, controls
        self.message = ipywidgets.HTML()
        self.panel = ipywidgets.VBox([*controls.values(), self.message])
        self._shown: list[Any] = []  # a handle for each time that it was displayed
        self._waiting: asyncio.TimerHandle | None = None
        for name, control in controls.items():
            self._prepare(name, control)
        self._draw()

    def _prepare(self, name: str, control: Any) -> None:
        control.description = control.description or name
        control.layout.max_width = "100%"
        if hasattr(control, "style"):
            control.style.description_width = "initial"  # as wide as the text
            control.layout.width = control.layout.width or "480px"
        typed = isinstance(control, ipywidgets.Text)
        if hasattr(control, "continuous_update"):
            control.continuous_update = typed
        control.observe(self._later if typed else self._now, names="value")

    def _draw(self) -> None:
        """Draw by the values of the controls, and say the hint."""
        values = {name: control.value for name, control in self.controls.items()}
        figure = self.draw(**values)
        data, metadata = plotting.bundle(figure)
        said = self.hint(**values) if self.hint else ""
        # not before the hint, which may raise: the last picture stays then
        self.data, self.metadata, self.alt = data, metadata, str(figure.get_label())
        # the picture in the cell's output has its text only where a page is made of the notebook
        unseen = f'<div role="status" style="{_UNSEEN}">{html.escape(self.alt)}</div>'
        self.message.value = f"<b>{html.escape(said)}</b>{unseen}" if said else unseen

    def _now(self, change: Any = None) -> None:
        """Draw anew, wherever it is displayed."""
        self._waiting = None
        try:
            self._draw()
        except Exception as error:
            reason = html.escape(f"{type(error).__name__}: {error}")
            self.message.value = f"<b>Not drawn; the picture is the last one.</b> {reason}"
            raise
        for handle in self._shown:
            handle.update(self.data, metadata=self.metadata, raw=True)

    def _later(self, change: Any) -> None:
        """Draw anew once nothing has changed for a moment."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # not in a kernel: nobody types
            self._now()
            return
        if self._waiting is not None:
            self._waiting.cancel()
        self._waiting = loop.call_later(PAUSE, self._now)

    def _ipython_display_(self) -> None:
        display(self.panel)
        self._shown.append(display(self.data, metadata=self.metadata, raw=True, display_id=True))
