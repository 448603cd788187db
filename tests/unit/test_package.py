"""What holds for the package as a whole: what an import costs, who may import whom, what a wheel carries."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement

import graticule

ROOT = Path(__file__).parents[2]
HEAVY = ("dask", "distributed", "exactextract", "numexpr", "numpy", "pydantic", "pyproj", "rasterio", "shapely")
LIGHT = ("graticule", "graticule.client", "graticule.cli", "graticule.web.server", "graticule.runtime.parts")


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


DEPENDENCIES = [Requirement(text) for text in project()["dependencies"]]


def pins(name: str) -> dict[str, str]:
    """Return the version of each distribution in a lock."""
    lock = (ROOT / "requirements" / name).read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", lock, re.MULTILINE))


def test_importing_the_package_takes_less_than_a_tenth_of_a_second():
    code = "import time; begin = time.perf_counter(); import graticule; print(time.perf_counter() - begin)"

    assert min(float(run_python(code)) for _ in range(3)) < 0.1


@pytest.mark.parametrize("module", LIGHT)
def test_an_import_loads_no_heavy_library(module):
    loaded = run_python(f"import sys, {module}; print(*sys.modules)").split()

    assert set(HEAVY) & set(loaded) == set()


@pytest.mark.parametrize("name", graticule.__all__)
def test_a_public_name_loads_when_it_is_first_used(name):
    assert getattr(graticule, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="meridian"):
        _ = graticule.meridian


def test_the_import_contracts_hold():
    lint = Path(sys.executable).with_name("lint-imports")

    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


def test_the_version_is_the_same_in_code_and_metadata():
    assert project()["version"] == graticule.__version__


@pytest.mark.parametrize("lock", ["server.txt", "dev.txt"])
@pytest.mark.parametrize("requirement", DEPENDENCIES, ids=lambda r: r.name)
def test_a_dependency_is_locked_to_a_version_that_its_range_allows(requirement, lock):
    assert requirement.specifier.contains(pins(lock)[requirement.name])


def test_the_tests_run_on_the_versions_that_the_server_is_locked_to():
    server, dev = pins("server.txt"), pins("dev.txt")

    assert {name: dev.get(name) for name in server} == server


@pytest.mark.parametrize("lock", ["server.txt", "dev.txt", "pygeoapi.txt"])
def test_a_lock_names_no_address(lock):
    assert "://" not in (ROOT / "requirements" / lock).read_text(encoding="utf-8")


def test_a_wheel_carries_every_file_of_the_package(tmp_path):
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])

    source = ROOT / "src"
    files = (file for file in (source / "graticule").rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    expected = {file.relative_to(source).as_posix() for file in files}
    assert expected <= set(zipfile.ZipFile(wheel).namelist())
