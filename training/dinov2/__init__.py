"""Self-supervised training of the embedded DINOv2, on rendered pictures only."""
