"""Training of the embedded locked-image text tower: a text encoder for the embedded DINOv2."""
