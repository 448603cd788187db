"""The documentation and the code say the same: links lead somewhere, and what the code offers is named."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import pytest

import graticule
from graticule.cli import COMMANDS
from graticule.client import Client
from graticule.processes import builtin
from graticule.processes.decorator import discover
from graticule.processes.samples import SAMPLES
from graticule.web.problems import PROBLEMS
from graticule.web.routes import ROUTES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
DECISIONS = sorted((DOCS / "decisions").glob("[0-9]*.md"))
BUILTIN = {
    process.description.id: process.description
    for module in pkgutil.iter_modules(builtin.__path__)
    for process in discover(importlib.import_module(f"{builtin.__name__}.{module.name}"))
}
BLOCK = re.compile(r"^```\w+ +file=(?P<name>\S+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def read(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def sections(page: str) -> dict[str, str]:
    """Return the text below each second heading of a page."""
    parts = re.split(r"^## (.+)$", read(page), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.fixture(scope="module")
def check_links() -> ModuleType:
    """The script behind `make docs`."""
    spec = importlib.util.spec_from_file_location("check_links", ROOT / "scripts" / "check_links.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_of_a_page_leads_somewhere(check_links, page):
    assert list(check_links.faults(page)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_a_page_is_found_from_the_readme_or_its_index(page):
    index = page.with_name("README.md") if page in DECISIONS else ROOT / "README.md"

    assert f"({page.relative_to(index.parent).as_posix()})" in index.read_text(encoding="utf-8")


def test_the_readme_shows_the_example_that_is_run():
    shown = {block["name"]: block["text"] for block in BLOCK.finditer((ROOT / "README.md").read_text("utf-8"))}

    assert shown == {"my_processes.py": (ROOT / "examples" / "my_processes.py").read_text("utf-8")}


@pytest.mark.parametrize("process", BUILTIN)
def test_the_reference_describes_a_built_in_process_with_all_inputs_and_outputs(process):
    told = sections("reference/processes.md")[process]

    inputs, outputs = told.split("| output |")
    assert re.findall(r"^\| `([\w-]+)`", inputs, re.MULTILINE) == list(BUILTIN[process].inputs)
    assert re.findall(r"^\| `([\w-]+)`", outputs, re.MULTILINE) == list(BUILTIN[process].outputs)


def test_the_reference_describes_no_process_that_there_is_not():
    assert set(sections("reference/processes.md")) == set(BUILTIN)


@pytest.mark.parametrize("process", BUILTIN)
def test_the_readme_names_a_built_in_process(process):
    assert f"`{process}`" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("error", PROBLEMS, ids=lambda error: error.__name__)
def test_the_reference_names_a_problem_with_its_status(error):
    row = PROBLEMS[error]

    assert f"| {row.status} | `{row.type}` |" in sections("reference/api.md")["Problems"]


def test_the_reference_names_as_many_problems_as_there_are():
    rows = re.findall(r"^\| \d{3} \|", sections("reference/api.md")["Problems"], re.MULTILINE)

    assert len(rows) == len(PROBLEMS)


@pytest.mark.parametrize("route", [f"{route.method} {route.path}" for route in ROUTES if not route.hidden])
def test_the_reference_names_a_resource(route):
    told = sections("reference/api.md")["Resources"]

    assert f"`{route}`" in told or route in {"GET /api.json", "GET /api.html"}


@pytest.mark.parametrize(
    "parameter",
    sorted({one.name for route in ROUTES if not route.hidden for one in route.parameters if one.place == "query"}),
)
def test_the_reference_names_a_query_parameter(parameter):
    if parameter == "response":
        assert "`response[f]`" in read("reference/api.md")
    else:
        assert f"`{parameter}`" in read("reference/api.md")


@pytest.mark.parametrize("call", [name for name, _ in inspect.getmembers(Client, inspect.isfunction) if name[0] != "_"])
def test_the_reference_names_a_call_of_the_client(call):
    assert f"| `{call}(" in sections("reference/python-client.md")["Client"]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_reference_names_a_command(command):
    assert f"| `{command}` |" in read("reference/command-line.md")


@pytest.mark.parametrize("name", [name for name in graticule.__all__ if name != "__version__"])
def test_the_guide_for_authors_names_what_the_package_offers(name):
    assert re.search(rf"\b{name}\b", read("howto/publish-a-process.md"))


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_guide_for_authors_names_a_sample_file(sample):
    assert f"`{sample}`" in read("howto/publish-a-process.md")


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_says_what_over_what_why_and_what_would_change_it(decision):
    text = decision.read_text(encoding="utf-8")

    assert text.startswith(f"# {decision.name[:4]} ")
    assert re.findall(r"^\*\*(.+?):\*\*", text, re.MULTILINE) == [
        "We chose", "Over", "Why", "What would make us change",
    ]  # fmt: skip
    assert len(text.splitlines()) <= 40
