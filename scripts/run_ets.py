"""Run the OGC's test suite for Processes Part 1 against a server on a fresh home and a free port.

python scripts/run_ets.py PATH-OF-run-ets SUITE.jar
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.serving import Server


def main() -> int:
    """Return what the suite returns: 0 when all its tests passed."""
    runner, jar = sys.argv[1:3]
    with tempfile.TemporaryDirectory(prefix="graticule-ets-") as folder, Server(Path(folder) / "home") as server:
        return subprocess.run([runner, server.url, "--jar", jar, *sys.argv[3:]], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
