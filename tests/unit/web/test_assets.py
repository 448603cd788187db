"""The files that the pages load."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from graticule.web.pages import assets

PINS = json.loads((Path(__file__).parents[3] / "frontend/packages.json").read_text(encoding="utf-8"))


def test_files_of_other_packages_are_those_that_are_pinned():
    pinned = {file["to"]: file["sha256"] for pin in PINS.values() for file in pin["files"].values()}

    assert pinned == {name: hashlib.sha256(assets()[name].content).hexdigest() for name in pinned}


def test_all_files_of_other_packages_are_pinned():
    pinned = {file["to"] for pin in PINS.values() for file in pin["files"].values()}

    assert {name for name in assets() if "/" in name and not name.endswith("/CHECKSUMS")} == pinned


def test_pages_bring_their_own_scripts_and_styles_with_media_types():
    types = {name: asset.media_type for name, asset in assets().items() if "/" not in name}

    assert types == {
        "api.js": "text/javascript; charset=utf-8",
        "jobs.js": "text/javascript; charset=utf-8",
        "mark.svg": "image/svg+xml",
        "pages.js": "text/javascript; charset=utf-8",
        "style.css": "text/css; charset=utf-8",
    }
