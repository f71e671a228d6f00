"""How good the techniques are on data/: `python -m benchmarks.quality.<technique>`."""
