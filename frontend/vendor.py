# ruff: noqa: INP001 - a script, no package
"""Copy the files that the pages need from npm packages into the package data.

`packages.json` pins each package by version and SHA-512, and each file by SHA-256. The copies are committed, so neither
the installation nor the tests need npm; this runs when a version changes:

    python frontend/vendor.py              copy what is pinned, after checking it
    python frontend/vendor.py --repin      take the checksums of the versions that packages.json names
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PINS = HERE / "packages.json"
STATIC = HERE.parent / "src/graticule/web/static"


def pack(name: str, version: str, folder: Path) -> bytes:
    """Return the archive of a package as npm's own client fetches it."""
    command = ["npm", "pack", f"{name}@{version}", "--silent", "--ignore-scripts", "--pack-destination", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return (folder / done.stdout.strip().splitlines()[-1]).read_bytes()


def integrity(content: bytes) -> str:
    """Return a checksum in npm's spelling."""
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


def copy(name: str, pin: dict[str, Any], *, repin: bool) -> None:
    """Check one package and copy its files; with `repin`, write down what was found instead."""
    with tempfile.TemporaryDirectory() as folder:
        archive = pack(name, pin["version"], Path(folder))
        found = integrity(archive)
        if repin:
            pin["integrity"] = found
        elif found != pin["integrity"]:
            sys.exit(f"{name} {pin['version']} is {found}, pinned is {pin['integrity']}: nothing was copied")
        unpacked = Path(folder) / "unpacked"
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as tar:
            tar.extractall(unpacked, filter="data")
        for source, file in pin["files"].items():
            content = (unpacked / "package" / source).read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            if repin:
                file["sha256"] = digest
            elif digest != file["sha256"]:
                sys.exit(f"{source} of {name} is not the file that is pinned: nothing more was copied")
            target = STATIC / file["to"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


def main() -> None:
    """Copy all packages."""
    parser = argparse.ArgumentParser(description="Copy the files that the pages need from npm packages.")
    parser.add_argument("--repin", action="store_true", help="take the checksums of the versions that are named")
    repin = parser.parse_args().repin
    pins = json.loads(PINS.read_text(encoding="utf-8"))
    for name, pin in pins.items():
        copy(name, pin, repin=repin)
    if repin:
        PINS.write_text(json.dumps(pins, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
