"""How the sample world is rendered and how the embedded DINOv2 is trained on it."""
