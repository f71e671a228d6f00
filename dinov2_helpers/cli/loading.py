"""The models that a command line names."""

from argparse import Namespace

from ..clip import Clip, load_clip
from ..data import source_of
from ..lit import Lit
from ..models.load import Dinov2, load_dinov2
from ..models.profiles import PROFILES
from .session import CommandError


def load_model(args: Namespace) -> Dinov2:
    """Load the DINOv2 of --model, on --device, computed by --backend.

    Raises:
        CommandError: There is no such device.
        ModelError, ValueError: As `load_dinov2`.
    """
    check_device(args.device)
    return load_dinov2(args.model, device=args.device, backend=args.backend)


def check_device(device: str | None) -> None:
    """Raise a CommandError if PyTorch cannot compute on a device, which it says in its own way."""
    if device is None or device == "cpu":
        return
    import torch

    here = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "xpu": hasattr(torch, "xpu") and torch.xpu.is_available(),
    }
    if not here.get(device.split(":")[0], False):
        raise CommandError(
            f"--device {device}: PyTorch has no such device here; `dinov2 check` says what there is"
        )


def kept_model(args: Namespace, name: str) -> Dinov2 | None:
    """Load the DINOv2 of --model, else the one that something kept was made with.

    Args:
        args: The command line.
        name: Of the model that it was made with.

    Returns:
        None if the command line says nothing of it: what was kept loads its own.

    Raises:
        CommandError, ModelError, ValueError: As `load_model`.
    """
    if args.model is None and args.device is None and args.backend == "auto":
        return None
    check_device(args.device)
    source = args.model or source_of(name)
    return load_dinov2(source, device=args.device, backend=args.backend)


def kept_name(folder: str, kind: str) -> str:
    """Return the name of the DINOv2 that something in a folder was made with.

    Raises:
        KeptError: There is none of the kind.
    """
    from ..techniques.keeping import load_object

    return load_object(folder, kind).models["dinov2"]["name"]


def load_words(args: Namespace, name: str | None = None) -> Clip | Lit:
    """Load the model of words: --clip, else the one of a name, else that of the profile.

    Args:
        args: The command line.
        name: Of the model that something kept was made with.
    """
    check_device(args.device)
    profile = args.model if args.model in PROFILES else None
    source = args.clip or (source_of(name) if name else profile)
    return load_clip(source, device=args.device)
