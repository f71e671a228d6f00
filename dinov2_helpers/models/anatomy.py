"""Where the vision transformers of transformers keep their parts, and which tokens they have.

All of them cut a picture into patches, run blocks over the tokens and end in a layer norm. They
differ in the names of these parts and in what stands before the patches: DINOv2 and DINOv3 have a
CLS token, then registers, if any; SigLIP has neither, and pools its patches by a head of its own.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Anatomy(NamedTuple):
    """The parts of a kind of vision transformer, by their names in transformers."""

    stack: str  # of the model: what runs its blocks
    blocks: str  # of the stack: the list of its blocks
    norm: str  # of the model: the layer norm after the last block
    attention: str  # of a block
    has_cls: bool = True  # whether the first token is CLS
    options: Mapping[str, Any] = {}  # with which it is called, to take pictures of any size

    def stack_of(self, model: Any) -> Any:
        """Return the module that runs the blocks of a model."""
        return getattr(model, self.stack)

    def blocks_of(self, model: Any) -> Any:
        """Return the blocks of a model, the first first."""
        return getattr(self.stack_of(model), self.blocks)

    def norm_of(self, model: Any) -> Any:
        """Return the layer norm of a model after its last block."""
        return getattr(model, self.norm)

    def attention_of(self, block: Any) -> Any:
        """Return the attention of a block; its projections are `q_proj`, `k_proj`, `v_proj`."""
        return getattr(block, self.attention)


_DINOV2 = Anatomy("encoder", "layer", "layernorm", "attention")
_SIGLIP = Anatomy(
    "encoder",
    "layers",
    "post_layernorm",
    "self_attn",
    has_cls=False,
    options={"interpolate_pos_encoding": True},
)
ANATOMIES: Mapping[str, Anatomy] = {
    "dinov2": _DINOV2,
    "dinov2_with_registers": _DINOV2,
    "dinov3_vit": Anatomy("model", "layer", "norm", "attention"),
    "siglip_vision_model": _SIGLIP,
}
"""By the `model_type` of the model's configuration, as in transformers 5.18 to 5.24."""


def anatomy_of(model: Any) -> Anatomy:
    """Return the parts of a vision transformer.

    Args:
        model: Of transformers.

    Raises:
        ValueError: Its kind is not known here.

    Example:
        >>> from transformers import Dinov2Config, Dinov2Model
        >>> anatomy_of(Dinov2Model(Dinov2Config(hidden_size=12, num_hidden_layers=1))).has_cls
        True
    """
    kind = model.config.model_type
    if kind not in ANATOMIES:
        raise ValueError(f"model_type {kind!r}: where its parts are is known of {[*ANATOMIES]}")
    return ANATOMIES[kind]
