"""What networks must heed that convolve with the channels last."""

BLOCK = 8  # float32 numbers in an AVX2 register


def require_whole_blocks(width: int) -> None:
    """Refuse a number of channels that does not fill vectors of 8.

    On CPUs without AVX-512, PyTorch's convolutions (oneDNN's, seen with torch 2.13) write past the
    end of a buffer, and the process dies sooner or later, with "corrupted double-linked list" or
    "free(): invalid size". The smallest case found is a 1x1 convolution with stride 2 of 4 channels
    in channels_last memory, as in a shortcut of `training.clip.model.Block`; with the channels
    first, with stride 1, with a 3x3 kernel, or with 8, 12, 16, 20 or 24 channels nothing broke. To
    see it on any CPU, set ONEDNN_MAX_CPU_ISA=AVX2 and ATEN_CPU_CAPABILITY=avx2.

    Args:
        width: Channels of the narrowest layer.

    Raises:
        ValueError: It is no positive multiple of 8.
    """
    if width < BLOCK or width % BLOCK:
        raise ValueError(
            f"width={width}: with channels last, a convolution needs a multiple of {BLOCK} "
            "channels; with fewer it writes past its memory on CPUs without AVX-512"
        )
