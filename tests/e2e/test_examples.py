"""What the documentation shows happens: its marked blocks run against a real server, and ``examples/`` too.

A fenced block says with a word after its language what is done with it, in the order of the page:

- ``file=NAME``: its text is written to a file of that name;
- ``serve``: its command, ``graticule serve …``, becomes the server that the rest of the page asks;
- ``install``: the folder that its last word names is installed for the servers and commands that follow;
- ``run``: a shell or Python block runs; it must end with 0, or with ``run=N``;
- ``output``: what the block before it printed. ``…`` stands for anything; identifiers, times and sizes may differ.

Pages write ``http://127.0.0.1:8080`` where the test has another address.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.serving import Server

ROOT = Path(__file__).parents[2]
ADDRESS = "127.0.0.1:8080"
FENCE = re.compile(r"^```(?P<language>\w+)[ \t]*(?P<mark>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<=/)[0-9a-f]{32}(?=/)")
VARIES = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z|(?m:^date: .*$)|\([\d.]+ [KM]iB\)")
"""Times, and sizes of files, which depend on the version of GDAL."""
RUN_SECONDS = 60


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    language: str
    mark: str
    text: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(found["language"], found["mark"].strip(), found["text"], text.count("\n", 0, found.start()) + 1)
        for found in FENCE.finditer(text)
    ]


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUNNABLE = [page for page in PAGES if any(block.mark for block in blocks_of(page))]


@dataclass
class Reader:
    """Somebody who follows a page step by step, in a folder of their own."""

    folder: Path
    started: Server
    """A server that was there before; a page that starts its own does not use it."""
    own: list[Server] = field(default_factory=list)
    installed: list[Path] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)
    """Identifiers that the page shows, and what they are here."""
    printed: str = ""

    def do(self, block: Block) -> None:
        word, _, value = block.mark.partition("=")
        if word == "file":
            path = self.folder / value
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._here(block.text), encoding="utf-8")
        elif word == "serve":
            self._serve(shlex.split(block.text)[2:])
        elif word == "install":
            self._install(self.folder / shlex.split(block.text)[-1])
        elif word == "run":
            self._run(block, int(value or 0))
        elif word == "output":
            self._compare(block)
        else:
            pytest.fail(f"line {block.line}: a block cannot be marked {block.mark!r}")

    @property
    def address(self) -> str:
        return (self.own[-1] if self.own else self.started).url.removeprefix("http://")

    @property
    def environment(self) -> dict[str, str]:
        path = [str(self.folder / ".bin"), os.environ["PATH"]]
        modules = [*map(str, self.installed), *filter(None, [os.environ.get("PYTHONPATH")])]
        outside = {name: value for name, value in os.environ.items() if not name.startswith("GRATICULE_")}
        return outside | {
            "PATH": os.pathsep.join(path),
            "PYTHONPATH": os.pathsep.join(modules),
            "GRATICULE_URL": f"http://{self.address}",
        }

    def _here(self, text: str) -> str:
        text = text.replace(ADDRESS, self.address)
        for shown, here in self.known.items():
            text = text.replace(shown, here)
        return text

    def _serve(self, arguments: list[str]) -> None:
        """Start the page's own server; the files that it names lie in the reader's folder."""
        while self.own:
            self.own.pop().stop()
        home = self.folder / f"home-{len(list(self.folder.glob('home-*')))}"
        there = [str(self.folder / one) if (self.folder / one).is_file() else one for one in arguments]
        paths = {"PYTHONPATH": self.environment["PYTHONPATH"]} if self.environment["PYTHONPATH"] else {}
        self.own.append(Server(home, there, environment=paths).start())
        wait_for_samples(self.own[-1])

    def _install(self, source: Path) -> None:
        """Install without a network: what it needs and what builds it are here."""
        target = self.folder / ".installed"
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
        command += ["--no-build-isolation", "--no-deps", "--target", str(target), str(source)]
        subprocess.run(command, check=True, timeout=RUN_SECONDS)
        self.installed.append(target)

    def _run(self, block: Block, code: int) -> None:
        shell = ["sh", "-e", "-c"] if block.language in ("sh", "bash") else [sys.executable, "-c"]
        done = subprocess.run(
            [*shell, self._here(block.text)],
            cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False, timeout=RUN_SECONDS,
        )  # fmt: skip
        self.printed = done.stdout
        assert done.returncode == code, f"line {block.line}\n{block.text}\n{done.stdout}"

    def _compare(self, block: Block) -> None:
        printed = self.printed.replace(self.address, ADDRESS).replace(str(self.folder), "/home/ada")
        wanted = "(?P<any>.*?)".join(map(re.escape, _plain(block.text).split("…")))
        wanted = wanted.replace("(?P<any>", "(?:")
        assert re.fullmatch(wanted, _plain(printed), re.DOTALL), f"line {block.line}: what is printed is\n{printed}"
        if "…" not in block.text:
            self.known |= zip(UUID.findall(block.text), UUID.findall(printed), strict=True)

    def close(self) -> None:
        for server in self.own:
            server.stop()


def _plain(text: str) -> str:
    """Return text without what differs from run to run: identifiers, times, sizes, widths of tables."""
    text = re.sub("─+", "─", VARIES.sub("WHEN", UUID.sub("ID", text)))
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def wait_for_samples(server: Server) -> None:
    """Wait as long as a reader takes to type: the sample files are made after the first answer."""
    deadline = time.monotonic() + RUN_SECONDS
    while not (server.home / "samples").is_dir():
        assert time.monotonic() < deadline, f"no sample files came\n{server.tail()}"
        time.sleep(0.05)


@pytest.fixture
def reader(tmp_path: Path, server: Server) -> Iterator[Reader]:
    folder = tmp_path / "here"
    (folder / ".bin").mkdir(parents=True)
    command = folder / ".bin" / "graticule"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m graticule "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    (folder / ".bin" / "python").symlink_to(sys.executable)
    (folder / "examples").symlink_to(ROOT / "examples")
    wait_for_samples(server)
    following = Reader(folder, server)
    yield following
    following.close()


def test_there_is_a_page_to_follow():
    assert ROOT / "docs" / "tutorials" / "first-process.md" in RUNNABLE


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_shows_happens(page, reader):
    for block in blocks_of(page):
        if block.mark:
            reader.do(block)


# --- examples/ -------------------------------------------------------------------------------------------------------


def test_the_client_script_prints_fields_and_leaves_a_map(server, tmp_path):
    wait_for_samples(server)

    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "client.py"), server.url],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=RUN_SECONDS,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "successful 100" in done.stdout
    assert "400 /inputs/bands/0: " in done.stdout
    assert (tmp_path / "result.tif").is_file()


def test_a_slope_that_faces_the_light_is_brighter_than_one_that_does_not(tmp_path):
    """A roof whose ridge runs north-south: light from the west falls on its western side at the slope of 45 degrees."""
    import numpy as np
    import rasterio

    roof = np.tile(np.array([0, 10, 20, 30, 40, 30, 20, 10, 0], dtype="float32"), (5, 1))
    transform = rasterio.transform.from_origin(0, 50, 10, 10)
    profile = {"driver": "GTiff", "width": 9, "height": 5, "count": 1, "dtype": "float32", "crs": "EPSG:32632"}
    with rasterio.open(tmp_path / "roof.tif", "w", transform=transform, **profile) as target:
        target.write(roof, 1)
    graticule = [sys.executable, "-m", "graticule", "run", f"{ROOT / 'examples' / 'my_processes.py'}:hillshade"]

    subprocess.run([*graticule, "dem=roof.tif", "azimuth=270"], cwd=tmp_path, check=True, timeout=RUN_SECONDS)

    with rasterio.open(tmp_path / "shade.tif") as shade:
        row = shade.read(1)[2]
    assert row[2] == 255  # the light stands at 45 degrees, upright on this side
    assert row[6] == 1  # and grazes the other one
    assert row[4] == 1 + int(254 * np.sin(np.radians(45)))  # the ridge counts as flat


def test_a_pygeoapi_configuration_is_served_as_it_is(tmp_path):
    (tmp_path / "pygeoapi.yml").write_text((ROOT / "examples" / "pygeoapi.yml").read_text(encoding="utf-8"))
    arguments = ["--config", str(tmp_path / "pygeoapi.yml")]

    with Server(tmp_path / "home", arguments, environment={"PYGEOAPI_OUTPUT": str(tmp_path / "results")}) as server:
        asked = [sys.executable, "-m", "graticule", "execute", "pygeoapi-hello", "name=Ada", "--url", server.url]
        done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=RUN_SECONDS)

    assert "Hello Ada!" in done.stdout, done.stderr
    assert "manager TinyDB is replaced" in server.log
