"""``python -m graticule`` is the command ``graticule``."""

from __future__ import annotations

import sys

from graticule.cli import main

if __name__ == "__main__":
    sys.exit(main())
