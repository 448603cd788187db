"""The command line: what it reads, what it runs here, what it prints, and with which code it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from graticule import __version__, errors
from graticule.cli import COMMANDS, main
from graticule.cli.assignments import read_inputs, read_outputs
from graticule.cli.describe import needed_of, type_of
from graticule.cli.exits import Exit, code_of, code_of_status
from graticule.client import RemoteProblem, ServerUnreachable, WaitExpired
from graticule.ogc.common import Link, Problem
from graticule.ogc.processes import Input, ProcessDescription

RASTER = {"type": "string", "contentEncoding": "binary", "contentMediaType": "image/tiff; application=geotiff"}
GEOJSON = {"type": "object", "contentMediaType": "application/geo+json"}

PROCESS = ProcessDescription(
    id="p",
    version="1",
    inputs={
        "text": Input(schema={"type": "string"}),
        "number": Input(schema={"type": "number"}),
        "flag": Input(schema={"type": "boolean"}),
        "color": Input(schema={"type": "string", "enum": ["red", "5"]}),
        "several": Input(schema={"type": "integer"}, max_occurs="unbounded"),
        "words": Input(schema={"type": "string"}, max_occurs="unbounded"),
        "choices": Input(schema={"type": "string", "enum": ["mean", "max"]}, max_occurs=2),
        "rows": Input(schema={"type": "array", "items": {"type": "integer"}}, max_occurs="unbounded"),
        "rasters": Input(schema=RASTER, max_occurs="unbounded"),
        "array": Input(schema={"type": "array", "items": {"type": "integer"}}),
        "names": Input(schema={"type": "array", "items": {"type": "string"}}),
        "table": Input(schema={"type": "array", "items": {"type": "object"}}),
        "either": Input(schema={"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "integer"}}]}),
        "raster": Input(schema=RASTER),
        "shape": Input(schema=GEOJSON),
        "box": Input(schema={"allOf": [{"format": "ogc-bbox"}]}),
        "mixed": Input(schema={"oneOf": [{"type": "string"}, {"type": "integer"}]}),
    },
)

MINE = '''
from pathlib import Path
from typing import Annotated
from pydantic import Field
from graticule import File, OutputFile, RunContext, process

@process
def add(a: float, b: Annotated[float, Field(ge=0)] = 1.0) -> float:
    """Add two numbers."""
    print("adding")
    return a + b

@process(outputs={"copy": "The same again"})
def copy_file(source: File, *, context: RunContext) -> OutputFile:
    """Copy a file."""
    context.report(50, "half way")
    path = context.folder / "copy.txt"
    path.write_bytes(source.read_bytes())
    return OutputFile(path)

@process
def fail() -> str:
    """Fail."""
    raise RuntimeError("no luck")
'''


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


# --- name=value ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("text=hello", "hello"),
        ("text=5", "5"),
        ("text=", ""),
        ("text=a=b", "a=b"),
        ('text={"a":1}', '{"a":1}'),
        ("number=5", 5),
        ("number=-2.5", -2.5),
        ("number=many", "many"),
        ("flag=true", True),
        ("flag=yes", "yes"),
        ("color=5", "5"),
        ("several=3", [3]),
        ("several=[1,2]", [1, 2]),
        ("several=[]", []),
        ("words=mean", ["mean"]),
        ('words=["mean","max"]', ["mean", "max"]),
        ("words=[draft]", ["[draft]"]),
        ("words=5", ["5"]),
        ('choices=["mean","max"]', ["mean", "max"]),
        ("choices=mean", ["mean"]),
        ("rows=[1,2]", [[1, 2]]),
        ("rows=[[1,2],[3]]", [[1, 2], [3]]),
        ("rasters=http://h/a.tif", [Link(href="http://h/a.tif")]),
        ('rasters=[{"href":"http://h/a.tif"}]', [{"href": "http://h/a.tif"}]),
        ("array=[1,2]", [1, 2]),
        ("array=3", [3]),
        ('names=["a","b"]', ["a", "b"]),
        ("names=a", ["a"]),
        ("names=5", ["5"]),
        ('table=[{"a":1}]', {"value": [{"a": 1}]}),
        ("either=a", "a"),
        ("either=[1]", [1]),
        ('text=["a"]', '["a"]'),
        ("number=[1]", [1]),
        ("mixed=7", 7),
        ("mixed=seven", "seven"),
        ("box=5,45,6,46", {"bbox": [5, 45, 6, 46]}),
        ('shape={"type":"Point","coordinates":[1,2]}', {"type": "Point", "coordinates": [1, 2]}),
        ("raster=https://example.org/dem.tif", Link(href="https://example.org/dem.tif")),
        ("raster=sample:dem.tif", Link(href="http://h/files/samples/dem.tif")),
        ('raster={"href":"http://h/x"}', {"href": "http://h/x"}),
        ("text=https://example.org/", "https://example.org/"),
        ("text=@@home", "@home"),
        ("unknown=5", 5),
    ],
)
def test_a_value_is_json_where_the_input_wants_it_and_text_elsewhere(assignment, value):
    inputs = read_inputs(None, [assignment], PROCESS, samples="http://h/files/samples")

    assert list(inputs.values()) == [value]


@pytest.mark.parametrize(
    ("assignments", "values"),
    [
        (["several=1", "several=2"], [1, 2]),
        (["several=1", "several=[2,3]"], [1, 2, 3]),
        (["choices=mean", "choices=max"], ["mean", "max"]),
        (["rows=[1]", "rows=[2,3]"], [[1], [2, 3]]),
        (["array=1", "array=2"], [1, 2]),
        (["names=a", "names=5"], ["a", "5"]),
        (["text=a", "text=b"], ["a", "b"]),
    ],
    ids=str,
)
def test_a_repeated_name_gives_an_array(assignments, values):
    assert list(read_inputs(None, assignments, PROCESS).values()) == [values]


def test_an_array_of_objects_of_a_file_is_one_value_where_the_input_takes_one(tmp_path):
    path = tmp_path / "inputs.json"
    path.write_text('{"table": [{"a": 1}], "rows": [[1]]}')

    assert read_inputs(str(path), [], PROCESS) == {"table": {"value": [{"a": 1}]}, "rows": [[1]]}


@pytest.mark.parametrize("text", ["dem.tif", "@dem.tif", "./dem.tif"])
def test_a_path_is_a_file_where_the_input_takes_one(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dem.tif").write_bytes(b"II*\0")

    value = read_inputs(None, [f"raster={text}"], PROCESS)["raster"]

    assert value.read_bytes() == b"II*\0"


def test_a_file_gives_what_it_holds_where_the_input_takes_a_literal(tmp_path):
    (tmp_path / "numbers.json").write_text("[1, 2]")
    (tmp_path / "words.txt").write_text("a b")

    inputs = read_inputs(None, [f"array=@{tmp_path}/numbers.json", f"text=@{tmp_path}/words.txt"], PROCESS)

    assert inputs == {"array": [1, 2], "text": "a b"}


@pytest.mark.parametrize("assignment", ["raster=absent.tif", "raster=@absent.tif", "text=@absent.txt"])
def test_a_file_that_is_not_there_is_named_with_its_input(assignment):
    with pytest.raises(errors.InvalidInputs) as caught:
        read_inputs(None, [assignment], PROCESS)

    assert caught.value.faults[0].pointer == f"/inputs/{assignment.partition('=')[0]}"
    assert "absent" in caught.value.faults[0].message


def test_a_json_file_gives_inputs_and_assignments_overrule_it(tmp_path):
    path = tmp_path / "inputs.json"
    path.write_text('{"inputs": {"text": "a", "number": 1}}')

    assert read_inputs(str(path), ["text=b"], PROCESS) == {"text": "b", "number": 1}


def test_outputs_are_named_with_the_media_type_that_is_wanted():
    assert read_outputs(["a", "b=image/png"]) == {"a": {}, "b": {"format": {"mediaType": "image/png"}}}
    assert read_outputs([]) is None


# --- run -----------------------------------------------------------------------------------------------------------


def test_a_process_of_a_file_runs_here(mine, capfd):
    code = main(["run", "mine.py:add", "a=2", "b=0.5"])

    assert code == Exit.DONE
    assert capfd.readouterr().out == "result: 2.5\n"


def test_what_a_process_prints_stays_out_of_the_output(mine, capfd):
    main(["run", "mine.py:add", "a=2", "--json"])

    printed = capfd.readouterr()
    assert json.loads(printed.out) == {"result": 3.0}
    assert "adding" in printed.err


def test_a_function_may_be_called_by_its_own_name(mine, capfd):
    (mine.parent / "in.txt").write_text("hello")

    code = main(["run", "mine.py:copy_file", "source=in.txt", "--output-dir", "out", "--json"])

    assert code == Exit.DONE
    told = json.loads(capfd.readouterr().out)
    assert told == {"copy": {"file": str(mine.parent / "out" / "copy.txt"), "size": 5}}
    assert (mine.parent / "out" / "copy.txt").read_text() == "hello"


def test_running_overwrites_nothing(mine, capfd):
    (mine.parent / "in.txt").write_text("hello")
    (mine.parent / "copy.txt").write_text("mine")

    main(["run", "mine.py:copy-file", "source=in.txt"])

    assert (mine.parent / "copy.txt").read_text() == "mine"
    assert (mine.parent / "copy-1.txt").read_text() == "hello"


@pytest.mark.parametrize("name", ["run", "execute", "results"])
@pytest.mark.parametrize("folder", ["/proc/x", "plain/x", "plain"])
def test_a_folder_that_cannot_be_written_is_refused_before_anything_runs(mine, capfd, name, folder):
    (mine.parent / "plain").write_text("")

    code = main([name, "mine.py:add", "--output-dir", folder, "--json"])

    told = json.loads(capfd.readouterr().err)
    assert told["exitCode"] == code == Exit.BAD_INPUT
    assert told["faults"][0]["pointer"] == "/output-dir"
    assert repr(folder) in told["error"]


def test_a_new_folder_stays_only_if_something_is_written_to_it(mine, capfd):
    assert main(["run", "mine.py:add", "b=-5", "--output-dir", "out"]) == Exit.BAD_INPUT
    assert not (mine.parent / "out").exists()


def test_every_fault_of_the_inputs_is_named(mine, capfd):
    code = main(["run", "mine.py:add", "b=-5", "c=1"])

    told = capfd.readouterr().err
    assert code == Exit.BAD_INPUT
    assert [line.split(":")[0].strip() for line in told.splitlines()[1:]] == ["/inputs/a", "/inputs/b", "/inputs/c"]


def test_faults_are_json_too(mine, capfd):
    code = main(["run", "mine.py:add", "b=1", "--json"])

    told = json.loads(capfd.readouterr().err)
    assert told["exitCode"] == code == Exit.BAD_INPUT
    assert told["faults"][0]["pointer"] == "/inputs/a"


def test_a_process_that_raises_ends_with_its_story_and_the_code_of_a_failed_job(mine, capfd):
    code = main(["run", "mine.py:fail"])

    told = capfd.readouterr().err
    assert code == Exit.JOB_FAILED
    assert "Traceback" in told
    assert told.splitlines()[-1].startswith("graticule: the process failed with RuntimeError: no luck")


ENDS = '''
import os, signal, sys, time
from graticule import RunContext, process

@process
def leave(code: int) -> str:
    """End the interpreter."""
    os._exit(code)

@process
def crash(number: int) -> str:
    """End by a signal."""
    os.kill(os.getpid(), number)
    time.sleep(10)

@process
def fork(comes_back: bool = True) -> str:
    """Fork, and come back twice, or with a child that holds on to everything."""
    child = os.fork()
    if child == 0 and not comes_back:
        time.sleep(60)
    return "child" if child == 0 else str(child)

@process
def wait(*, context: RunContext) -> str:
    """Wait."""
    context.report(1, "waiting")
    os.write(2, b"waiting")
    time.sleep(30)
    return ""
'''


@pytest.fixture
def ends(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ends.py").write_text(ENDS)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["leave", "code=7"], "ended itself with exit code 7 instead of returning its outputs"),
        (["leave", "code=0"], "ended itself with exit code 0"),
        (["crash", f"number={signal.SIGUSR1:d}"], "ended by SIGUSR1"),
        (["crash", f"number={signal.SIGKILL:d}"], "was killed from outside (SIGKILL)"),
    ],
    ids=["exit", "exit without fault", "signal", "kill"],
)
def test_a_process_that_ends_without_a_word_is_told_in_a_sentence(ends, capfd, asked, said):
    name, *assignments = asked

    code = main(["run", f"ends.py:{name}", *assignments, "--json"])

    told = capfd.readouterr()
    assert code == Exit.JOB_FAILED
    assert said in json.loads(told.err)["error"]
    assert told.out == ""


@pytest.mark.parametrize("comes_back", ["true", "false"])
def test_a_process_that_forks_has_one_result(ends, capfd, comes_back):
    assert main(["run", "ends.py:fork", f"comes_back={comes_back}", "--json"]) == Exit.DONE

    child = int(json.loads(capfd.readouterr().out)["result"])
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("everyone", [True, False], ids=["from the terminal", "to the command alone"])
def test_a_run_is_stopped_with_all_of_it(ends, number, everyone):
    with subprocess.Popen(
        [sys.executable, "-m", "graticule", "run", "ends.py:wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as running:
        assert running.stderr.read(7) == b"waiting"
        [child] = psutil.Process(running.pid).children()
        (os.killpg if everyone else os.kill)(running.pid, number)
        out, err = running.communicate(timeout=20)

    assert running.returncode == Exit.INTERRUPTED
    assert (out, err) == (b"", b"graticule: stopped\n")
    assert not child.is_running()


def test_a_process_that_nothing_has_is_not_found(mine, capfd):
    assert main(["run", "mine.py:subtract"]) == Exit.NOT_FOUND
    told = capfd.readouterr().err
    assert told.startswith("graticule: no process 'subtract'; mine.py has these: add, copy-file, fail")
    assert "GET" not in told


def test_a_name_that_nothing_has_is_not_found_among_those_known(mine, capfd):
    assert main(["run", "buffers", "--json"]) == Exit.NOT_FOUND
    told = json.loads(capfd.readouterr().err)["error"]
    assert "write FILE.py:buffers for that of a file; known by name are band-math, buffer, " in told
    assert "GET" not in told


def test_a_file_that_cannot_be_imported_is_named(mine, capfd):
    (mine.parent / "broken.py").write_text("import nothing_like_this")

    assert main(["run", "broken.py:x"]) == Exit.MISCONFIGURED
    assert "nothing_like_this" in capfd.readouterr().err


def test_a_process_of_the_settings_runs_by_its_name_alone(mine, capfd):
    config = mine.parent / "graticule.toml"
    config.write_text("[processes]\nplugins = ['mine.py']\n")

    assert main(["run", "add", "a=1", "--config", str(config)]) == Exit.DONE
    assert capfd.readouterr().out == "result: 2.0\n"


def test_a_process_that_is_disabled_is_not_found(mine, capfd):
    config = mine.parent / "graticule.toml"
    config.write_text("[processes]\nplugins = ['mine.py']\ndisabled = ['add']\n")

    assert main(["run", "add", "a=1", "--config", str(config)]) == Exit.NOT_FOUND
    assert "processes.disabled" in capfd.readouterr().err


def test_an_object_that_a_module_imports_runs_by_its_name(mine, monkeypatch, capfd):
    monkeypatch.syspath_prepend(mine.parent)
    (mine.parent / "offers_by_entry_point.py").write_text("from mine import copy_file, add as plus")

    assert main(["run", "offers_by_entry_point:plus", "a=1"]) == Exit.DONE
    assert capfd.readouterr().out == "result: 2.0\n"


def test_a_process_of_the_settings_may_be_one_object_of_a_file(mine, capfd):
    config = mine.parent / "graticule.toml"
    config.write_text(f"[processes]\nplugins = ['{mine}:add']\n")

    assert main(["run", "add", "a=1", "--config", str(config)]) == Exit.DONE
    assert main(["run", "fail", "--config", str(config)]) == Exit.NOT_FOUND


def test_what_replaces_a_process_in_the_server_replaces_it_here_too(mine, capfd):
    for number in (1, 2):
        (mine.parent / f"own{number}.py").write_text(
            "from graticule import process\n\n@process(id='hello-world')\ndef own() -> int:\n"
            f'    """Say which."""\n    return {number}\n'
        )
    config = mine.parent / "graticule.toml"
    config.write_text("[processes]\nplugins = ['own1.py', 'own2.py']\n")

    assert main(["run", "hello-world", "--config", str(config)]) == Exit.DONE
    assert capfd.readouterr().out == "result: 2\n"


@pytest.mark.parametrize(
    ("given", "printed"),
    [(["words=mean"], "mean"), (["words=mean", "words=max"], "mean+max"), (['words=["mean","max"]'], "mean+max")],
    ids=["one", "repeated", "JSON"],
)
def test_a_list_of_texts_is_given_as_words_or_as_json(mine, capfd, given, printed):
    (mine.parent / "lists.py").write_text(
        "from graticule import process\n\n@process\ndef joined(words: list[str]) -> str:\n"
        '    """Join."""\n    return "+".join(words)\n'
    )

    assert main(["run", "lists.py:joined", *given]) == Exit.DONE
    assert capfd.readouterr().out == f"result: {printed}\n"


# --- the Python of a process ---------------------------------------------------------------------------------------

WHICH = '''
import sys
from graticule import process

@process
def which_python() -> str:
    """Name the interpreter."""
    return sys.executable
'''


@pytest.fixture
def which(tmp_path, monkeypatch):
    """Run the process `which-python` of a file, with a Python named in the settings; returns what it says."""
    (tmp_path / "which.py").write_text(WHICH)
    monkeypatch.chdir(tmp_path)

    def run(python, name="which.py:which-python"):
        (tmp_path / "graticule.toml").write_text(f'[processes.which-python]\npython = "{python}"\n')
        command = [sys.executable, "-m", "graticule", "run", name, "--config", "graticule.toml"]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    return run


@pytest.fixture(scope="module")
def other_python(tmp_path_factory):
    """The Python of a second environment of the same base Python; it sees the packages of this one."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "ours.pth").write_text("\n".join(path for path in sys.path if path))
    return folder / "bin" / "python"


@pytest.mark.parametrize("name", ["which.py:which-python", "which.py:which_python", "which.py"])
def test_another_environment_of_the_same_python_runs_a_process(which, other_python, name):
    assert other_python.resolve() == Path(sys.executable).resolve()

    done = which(other_python, name)

    assert (done.stdout, done.returncode) == (f"result: {other_python}\n", Exit.DONE), done.stderr


def test_a_program_that_starts_a_python_runs_a_process(which, other_python, tmp_path):
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(f'#!/bin/sh\nexec {other_python} "$@"\n')
    wrapper.chmod(0o755)

    assert which(wrapper).stdout == f"result: {other_python}\n"


def test_its_own_python_is_not_started_again(which):
    assert which(sys.executable).stdout == f"result: {sys.executable}\n"


def test_a_python_that_is_not_there_is_a_wrong_setting(which):
    done = which("/nowhere/bin/python")

    assert done.returncode == Exit.MISCONFIGURED
    assert "processes.which-python.python" in done.stderr


# --- settings ------------------------------------------------------------------------------------------------------


def test_settings_are_printed_with_their_source(monkeypatch, capsys):
    monkeypatch.setenv("GRATICULE_JOBS__WORKERS", "5")
    monkeypatch.setenv("GRATICULE_DATABASE__URL", "postgresql://me:s3cret@db/jobs")

    assert main(["settings"]) == Exit.DONE

    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()[2:]}
    assert rows["jobs.workers"] == ["5", "GRATICULE_JOBS__WORKERS"]
    assert rows["server.port"] == ["8080", "default"]
    assert rows["database.url"][0] == "postgresql://me:********@db/jobs"


def test_settings_are_printed_as_json(monkeypatch, capsys):
    monkeypatch.setenv("GRATICULE_JOBS__WORKERS", "5")

    main(["settings", "--json"])

    told = json.loads(capsys.readouterr().out)["jobs.workers"]
    assert told == {
        "value": 5,
        "source": "GRATICULE_JOBS__WORKERS",
        "default": 2,
        "variable": "GRATICULE_JOBS__WORKERS",
    }


def test_a_wrong_variable_ends_with_the_code_of_a_wrong_setting(monkeypatch, capsys):
    monkeypatch.setenv("GRATICULE_JOBS__WORKER", "5")

    assert main(["settings"]) == Exit.MISCONFIGURED
    assert "did you mean GRATICULE_JOBS__WORKERS?" in capsys.readouterr().err


def test_the_variables_of_the_client_are_no_settings(monkeypatch, capsys):
    monkeypatch.setenv("GRATICULE_URL", "http://example.org")

    assert main(["settings"]) == Exit.DONE


def test_the_warnings_of_a_configuration_go_to_standard_error(tmp_path, capsys):
    config = tmp_path / "pygeoapi.yml"
    config.write_text("server:\n  manager: {name: TinyDB}\n")

    main(["settings", "--json", "--config", str(config)])

    printed = capsys.readouterr()
    assert "TinyDB" in printed.err
    json.loads(printed.out)


# --- new -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        *((name, "small letters") for name in ("9lives", "My-Process", "a--b", "a_b", "-a", "", "../up")),
        ("a" * 300, "at most 100"),
        *((name, f"'my-{name}'") for name in ("class", "match", "json", "test", "graticule", "tests", "api", "jobs")),
        *((name, "would hide it") for name in ("numpy", "click", "pyyaml", "exactextract")),
    ],
)
def test_a_name_that_cannot_be_a_package_is_refused(tmp_path, monkeypatch, capsys, name, remedy):
    monkeypatch.chdir(tmp_path)

    assert main(["new", "--", name]) == Exit.BAD_INPUT
    assert remedy in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# --- serve ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reload", [[], ["--reload"]], ids=["once", "reload"])
def test_a_file_that_is_not_there_is_not_served(tmp_path, monkeypatch, capsys, reload):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("")

    assert main(["serve", "mine.py", "nope.py", "gone.py:add", *reload]) == Exit.USAGE
    assert "there is no file 'nope.py' and no file 'gone.py'; check the path" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"], "no home is made"


@pytest.mark.parametrize("command", [["serve", "--port", "0"], ["db", "upgrade"]], ids=["serve", "upgrade"])
@pytest.mark.parametrize(("path", "said"), [("/nope/x.db", "unable to open"), ("plain", "not a database")])
def test_a_database_that_cannot_be_used_is_a_wrong_setting(tmp_path, path, said, command):
    (tmp_path / "plain").write_text("no database" * 100)

    told = subprocess.run(
        [sys.executable, "-m", "graticule", *command, "--home", "home", "--database", f"sqlite:///{tmp_path / path}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert told.returncode == Exit.MISCONFIGURED
    assert said in told.stderr
    assert "Traceback" not in told.stderr


def test_a_folder_that_exists_is_left_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shade").mkdir()

    assert main(["new", "shade"]) == Exit.BAD_INPUT
    assert list((tmp_path / "shade").iterdir()) == []


def test_a_new_plug_in_names_its_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    assert main(["new", "hill-shade", "--json"]) == Exit.DONE

    told = json.loads(capsys.readouterr().out)
    assert told["files"] == [
        "hill-shade/pyproject.toml",
        "hill-shade/README.md",
        "hill-shade/.gitignore",
        "hill-shade/src/hill_shade/__init__.py",
        "hill-shade/tests/test_hill_shade.py",
    ]


# --- the command itself --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NoSuchProcess("x"), Exit.NOT_FOUND),
        (errors.InvalidInputs([]), Exit.BAD_INPUT),
        (errors.ProcessFault("x"), Exit.JOB_FAILED),
        (errors.InvalidSetting("a", "b"), Exit.MISCONFIGURED),
        (errors.HomeInUse("h", 1), Exit.MISCONFIGURED),
        (ServerUnreachable("u", "r"), Exit.UNREACHABLE),
        (WaitExpired("j", 1), Exit.WAIT_EXPIRED),
        (RemoteProblem(Problem(type="t", status=404)), Exit.NOT_FOUND),
        (RemoteProblem(Problem(type="t", status=422)), Exit.BAD_INPUT),
        (RemoteProblem(Problem(type="t", status=401)), Exit.NOT_ALLOWED),
        (RemoteProblem(Problem(type="t", status=503)), Exit.SERVER_FAULT),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_error_has_an_exit_code(error, code):
    assert code_of(error) == code


@pytest.mark.parametrize("error", list(errors.leaves(errors.GraticuleError)), ids=lambda error: error.__name__)
def test_no_error_of_ours_ends_in_a_traceback(error):
    assert code_of(error.__new__(error)) is not None


def test_a_defect_is_not_hidden():
    assert code_of(ZeroDivisionError()) is None


def test_a_removed_job_counts_as_not_found():
    assert code_of_status(410) == Exit.NOT_FOUND


def test_wrong_usage_ends_with_two(capsys):
    assert main(["jobs", "--limit", "none"]) == Exit.USAGE
    assert main(["frobnicate"]) == Exit.USAGE
    assert main(["run", "p", "not-an-assignment"]) != Exit.DONE


def test_a_service_that_is_not_there_has_its_own_code(capsys):
    assert main(["processes", "--url", "http://127.0.0.1:9"]) == Exit.UNREACHABLE
    assert "127.0.0.1:9" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_json_where_it_prints(command, capsys):
    assert main([command, "--help"]) == Exit.DONE

    told = capsys.readouterr().out
    assert command in ("serve", "worker", "db", "queue") or "--json" in told


def test_the_help_is_quick_and_loads_nothing_heavy():
    code = (
        "import sys; from graticule.cli import main; main(['--help']); "
        "print([m for m in ('rich', 'httpx2', 'pydantic', 'numpy', 'starlette') if m in sys.modules])"
    )
    begin = time.perf_counter()

    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert shown.stdout.splitlines()[-1] == "[]"
    assert time.perf_counter() - begin < 2  # 0.15 s on a quiet machine; the modules are the real test


def test_the_version_is_told(capsys):
    main(["--version"])

    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "number", "minimum": 0, "maximum": 360}, "number, from 0 to 360"),
        ({"type": "number", "minimum": 0, "maximum": 360, "not": {"enum": [360]}}, "number, from 0 to below 360"),
        ({"type": "number", "minimum": 0, "not": {"enum": [0]}}, "number, above 0"),
        ({"type": "number", "maximum": 0, "not": {"enum": [0]}}, "number, below 0"),
        ({"type": "integer", "minimum": 1}, "integer, at least 1"),
        ({"type": "integer", "maximum": 9, "multipleOf": 3}, "integer, at most 9, a multiple of 3"),
        ({"type": "integer", "minimum": 1, "not": {"enum": [5]}}, "integer, at least 1, not 5"),
        ({"type": "string", "minLength": 1, "maxLength": 10}, "string, from 1 to 10 characters"),
        ({"type": "string", "minLength": 1}, "string, at least 1 character"),
        ({"type": "string", "pattern": "^[a-z]+$"}, "string, matches ^[a-z]+$"),
        ({"enum": ["a", "b"], "type": "string"}, "a or b"),
        ({"enum": [1, "", "b c"]}, '1 or "" or b c'),
        ({"type": "array", "items": {"type": "string"}}, "list of string"),
        ({"type": "array", "items": {"type": "number"}, "maxItems": 3}, "list of number, at most 3 values"),
        ({"type": "array", "items": {"type": "number", "minimum": 0}}, "list of (number, at least 0)"),
        ({"allOf": [{"format": "ogc-bbox"}]}, "ogc-bbox"),
        ({"oneOf": [RASTER, {"type": "string", "format": "uri"}]}, "image/tiff; application=geotiff or uri"),
        ({}, "any"),
    ],
)
def test_a_schema_is_told_in_a_few_words(schema, words):
    assert type_of(schema) == words


@pytest.mark.parametrize(
    ("described", "words"),
    [
        (Input(schema={"type": "string"}), "yes"),
        (Input(schema={"type": "string"}, min_occurs=0), "no"),
        (Input(schema={"type": "boolean", "default": False}, min_occurs=0), "default false"),
        (Input(schema={"type": "string", "default": ""}, min_occurs=0), 'default ""'),
        (Input(schema={"type": "string", "default": "red"}, min_occurs=0), 'default "red"'),
        (Input(schema={"type": "string"}, max_occurs="unbounded"), "yes, any number"),
        (Input(schema={"type": "string"}, min_occurs=0, max_occurs=5), "no, at most 5"),
        (Input(schema={"type": "string"}, min_occurs=2, max_occurs="unbounded"), "yes, at least 2"),
        (Input(schema={"type": "string"}, min_occurs=2, max_occurs=4), "yes, from 2 to 4"),
    ],
)
def test_it_is_told_whether_an_input_is_needed_and_how_many_values_it_takes(described, words):
    assert needed_of(described) == words


def test_a_local_run_fetches_within_the_limits_of_a_server():
    from graticule.cli.local import policy_of
    from graticule.settings import Security, Settings

    policy = policy_of(Settings(security=Security(reference_timeout_s=5, reference_total_s=50)), {})

    assert (policy.idle_timeout_s, policy.timeout_s) == (5, 50)


def test_a_function_that_is_no_process_is_named_by_its_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("from graticule import process\n\n@process\ndef bare(a):\n    return a\n")

    assert main(["run", "broken.py:bare", "a=1"]) != Exit.DONE
    assert "plug-in 'broken.py' cannot be loaded: function 'bare'" in capsys.readouterr().err
