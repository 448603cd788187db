"""A plug-in from ``graticule new`` works as it comes: its test, on the command line, and on a server."""

import os
import subprocess
import sys
import tomllib

import pytest

from graticule.cli import main
from graticule.client import Client


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "my-process"]) == 0
    return tmp_path / "my-process"


def test_its_test_passes_with_plain_pytest(plugin):
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"], cwd=plugin, capture_output=True, text=True, check=False
    )

    assert tested.returncode == 0, tested.stdout
    assert "2 passed" in tested.stdout


def test_it_runs_here(plugin, capfd):
    code = main(["run", f"{plugin}/src/my_process/__init__.py:my-process", "name=Ada", "times=2"])

    assert code == 0
    assert capfd.readouterr().out == "result: Hello Ada!\nHello Ada!\n"


def test_it_is_served_from_its_file(plugin, serve):
    server = serve(str(plugin / "src" / "my_process" / "__init__.py"))

    with Client(server.url) as client:
        assert client.process("my-process").version == "0.1.0"
        assert client.execute("my-process", {"name": "Ada"})["result"] == "Hello Ada!"


def test_it_is_found_once_it_is_installed(plugin, serve, tmp_path):
    """An installed package is one on the path with its metadata beside it; installing for real would need a network."""
    metadata = plugin / "src" / "my_process-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-process\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text(entry_points_of(plugin / "pyproject.toml"))
    path = os.pathsep.join(filter(None, [str(plugin / "src"), os.environ.get("PYTHONPATH")]))

    server = serve(env={"PYTHONPATH": path})

    with Client(server.url) as client:
        assert client.execute("my-process", {"name": "Ada", "times": 2})["result"] == "Hello Ada!\nHello Ada!"


def entry_points_of(pyproject):
    groups = tomllib.loads(pyproject.read_text())["project"]["entry-points"]
    return "".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in groups.items()
    )
