"""`python -m dinov2_helpers.cli` is `dinov2`, where that is not on the path."""

import sys

from .app import main

sys.exit(main())
