"""Edges of a coarse mask, brought to where the picture has them: dense CRF and guided filter.

Patches are 14 pixels wide; the colours of the picture know better where a thing ends. Both take a
probability and the picture in Lab, of one size, and return a probability.
"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float32]
MOST_PIXELS = 2**18  # of a picture when its edges are refined
SURE = 0.02  # a probability is kept so far from 0 and 1, for its logit has to be finite


class Refinement(Protocol):
    """What brings the edges of a probability to those of a picture."""

    def __call__(self, probability: NDArray[Any], lab: NDArray[Any]) -> Floats:
        """Return a probability (H, W), from one (H, W) and the picture in Lab (H, W, 3)."""


@dataclass(frozen=True)
class DenseCrf:
    """A dense conditional random field with two labels, by mean field.

    Pixels that look alike and are near are told by each other what they are, again and again.
    Neighbours are all those in a window, without approximation, as in convolutional CRFs
    (Teichmann & Cipolla 2018, section 4); the two kernels, likeness in colour and place and place
    alone, are those of Krähenbühl & Koltun (2011, section 3), each normalised to a sum of 1.

    Args:
        radius: Of the window, in pixels, 1 or more.
        colour: Deviation of the likeness of colours, in units of Lab, above 0.
        near: Deviations in pixels of the first and of the second kernel, above 0.
        weights: Of the two kernels, 0 or more.
        steps: Of mean field, 0 or more.

    Raises:
        ValueError: One of them is out of its range.

    Example:
        >>> unsure = np.full((4, 6), 0.6, np.float32)
        >>> unsure[:, 3:] = 0.4
        >>> DenseCrf()(unsure, np.zeros((4, 6, 3))).shape
        (4, 6)
    """

    radius: int = 5
    colour: float = 5.0
    near: tuple[float, float] = (6.0, 1.5)
    weights: tuple[float, float] = (12.0, 2.0)
    steps: int = 5

    def __post_init__(self) -> None:
        if self.radius < 1 or self.steps < 0:
            raise ValueError(f"radius={self.radius}, steps={self.steps}: 1 and 0 are the least")
        if self.colour <= 0 or min(self.near) <= 0 or min(self.weights) < 0:
            raise ValueError(
                f"colour={self.colour}, near={self.near}, weights={self.weights}: deviations are "
                "above 0 and weights not below"
            )

    def __call__(self, probability: NDArray[Any], lab: NDArray[Any]) -> Floats:
        """Return the refined probability, (H, W) float32 in 0-1.

        Args:
            probability: (H, W) in 0-1.
            lab: (H, W, 3), the picture in CIE Lab.

        Raises:
            ValueError: They differ in size.
        """
        import torch

        _check_sizes(probability, lab)
        kernel = self._kernel(lab)  # (window, H, W)
        found = torch.tensor(np.asarray(probability, np.float32)).clamp(SURE, 1 - SURE)
        belief = torch.logit(found)
        for _ in range(self.steps):
            opinion = self._window(2 * found - 1)  # (window, H, W), from -1 to 1
            message = (kernel * opinion).sum(0)
            found = torch.sigmoid(belief + message)
        refined: Floats = found.numpy()
        return refined

    def _window(self, values: "Tensor") -> "Tensor":
        """Return the window around each pixel of (H, W), 0 outside: (window, H, W)."""
        from torch.nn.functional import pad, unfold

        padded = pad(values[None, None], [self.radius] * 4)
        return unfold(padded, 2 * self.radius + 1).view(-1, *values.shape)

    def _kernel(self, lab: NDArray[Any]) -> "Tensor":
        """Return how much each neighbour in the window is listened to, (window, H, W)."""
        import torch

        step = torch.arange(-self.radius, self.radius + 1.0)
        squared = (step[:, None] ** 2 + step**2).reshape(-1, 1, 1)  # (window, 1, 1), distances
        valid = self._window(torch.ones(lab.shape[:2])) * (squared > 0)  # nobody hears himself
        unlike = torch.zeros_like(valid)
        for channel in torch.tensor(np.asarray(lab, np.float32)).unbind(-1):
            unlike += (self._window(channel) - channel) ** 2
        alike_exponent = -squared / (2 * self.near[0] ** 2) - unlike / (2 * self.colour**2)
        alike = torch.exp(alike_exponent) * valid
        close = torch.exp(-squared / (2 * self.near[1] ** 2)) * valid
        first, second = self.weights
        return first * _to_sum_1(alike) + second * _to_sum_1(close)


def _to_sum_1(kernel: "Tensor") -> "Tensor":
    return kernel / (kernel.sum(0) + 1e-6)


@dataclass(frozen=True)
class GuidedFilter:
    """The guided filter with a guide in colours (He et al. 2010, section 3).

    In each window the result is a linear function of the colours, the one closest to the
    probability: where the colours have no edge, neither has it. Several times cheaper than the CRF.

    Args:
        radius: Of the window, in pixels, 1 or more.
        eps: What is added to the variance of colours / 100, above 0; larger is smoother.

    Raises:
        ValueError: One of them is out of its range.

    Example:
        >>> unsure = np.tile([0.9, 0.7, 0.6, 0.4, 0.3, 0.1], (6, 1))
        >>> lab = np.zeros((6, 6, 3))
        >>> lab[:, 3:] = 60  # the picture has an edge in its middle
        >>> print(GuidedFilter()(unsure, lab)[0].round(1))
        [0.7 0.7 0.7 0.3 0.3 0.3]
    """

    radius: int = 8
    eps: float = 1e-3

    def __post_init__(self) -> None:
        if self.radius < 1 or self.eps <= 0:
            raise ValueError(f"radius={self.radius}, eps={self.eps}: at least 1, and above 0")

    def __call__(self, probability: NDArray[Any], lab: NDArray[Any]) -> Floats:
        """Return the refined probability, (H, W) float32; it may leave 0-1 a little.

        Args:
            probability: (H, W) in 0-1.
            lab: (H, W, 3), the picture in CIE Lab.

        Raises:
            ValueError: They differ in size.
        """
        _check_sizes(probability, lab)
        guide = np.asarray(lab, np.float64) / 100
        target = np.asarray(probability, np.float64)
        mean_guide, mean_target = self._mean(guide), self._mean(target)
        products = self._mean(guide[..., :, None] * guide[..., None, :])  # (H, W, 3, 3)
        outer = mean_guide[..., :, None] * mean_guide[..., None, :]
        covariance = products - outer + self.eps * np.eye(3)
        shared = self._mean(guide * target[..., None]) - mean_guide * mean_target[..., None]
        slope = np.linalg.solve(covariance, shared[..., None])[..., 0]  # (H, W, 3)
        offset = mean_target - (slope * mean_guide).sum(-1)
        refined: Floats = (self._mean(slope) * guide).sum(-1) + self._mean(offset)
        return refined.astype(np.float32)

    def _mean(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return the mean of the window around each pixel of (H, W, ...)."""
        from scipy.ndimage import uniform_filter

        side = 2 * self.radius + 1
        found: NDArray[np.float64] = uniform_filter(
            values, (side, side) + (1,) * (values.ndim - 2), mode="reflect"
        )
        return found


Named = Literal["crf", "guided", "none"]
KINDS: dict[str, type[DenseCrf] | type[GuidedFilter]] = {"crf": DenseCrf, "guided": GuidedFilter}


def refinement(wanted: Any) -> Refinement | None:
    """Return a refinement by its name; one that is given, with settings of its own, is given back.

    Args:
        wanted: "crf", "guided", "none" or None; or a `DenseCrf` or `GuidedFilter`.

    Raises:
        ValueError: None of these.
    """
    if wanted is None or wanted == "none":
        return None
    if isinstance(wanted, str) and wanted in KINDS:
        return KINDS[wanted]()
    if isinstance(wanted, DenseCrf | GuidedFilter):
        return wanted
    raise ValueError(f"refine={wanted!r} is none of {[*KINDS, 'none']}, DenseCrf or GuidedFilter")


def lab_of(picture: Image.Image, size: tuple[int, int]) -> Floats:
    """Return an RGB picture in CIE Lab at another size, each new pixel the mean of what it covers.

    Args:
        picture: Of mode RGB.
        size: Height and width of the result, in pixels.

    Returns:
        (height, width, 3) float32.
    """
    from skimage.color import rgb2lab

    small = picture.resize(size[::-1], Image.Resampling.BOX)
    lab: Floats = rgb2lab(np.asarray(small)).astype(np.float32)
    return lab


def _check_sizes(probability: NDArray[Any], lab: NDArray[Any]) -> None:
    if np.shape(lab) != (*np.shape(probability), 3):
        raise ValueError(
            f"a probability of shape {np.shape(probability)} and a picture of {np.shape(lab)}: "
            "(H, W) and (H, W, 3) are needed"
        )


def refining_size(grid: tuple[int, ...], patch: int) -> tuple[int, int]:
    """Return height and width at which edges are refined: half of the model's pixels, or less."""
    height, width = grid[0] * patch / 2, grid[1] * patch / 2
    shrink = min(1.0, (MOST_PIXELS / (height * width)) ** 0.5)
    return max(1, int(height * shrink)), max(1, int(width * shrink))


def as_record(method: Refinement | None) -> dict[str, Any]:
    """Return a refinement as what JSON can hold."""
    if method is None:
        return {"kind": "none"}
    (name,) = (name for name, kind in KINDS.items() if isinstance(method, kind))
    return {"kind": name, **asdict(method)}  # type: ignore[call-overload]


def from_record(record: dict[str, Any]) -> Refinement | None:
    """Return the refinement that `as_record` wrote."""
    settings: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in record.items()
        if name != "kind"
    }
    return None if record["kind"] == "none" else KINDS[record["kind"]](**settings)
