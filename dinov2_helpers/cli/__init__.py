"""The command `dinov2`: a sub-command a file, and what all of them share in `session`, `options`.

What a sub-command needs of torch, transformers and scikit-learn is imported when it runs, so that
`dinov2 --help` answers at once.
"""

from .app import main

__all__ = ["main"]
