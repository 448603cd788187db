"""The commands that ask a service, against a real one."""

import hashlib
import io
import json
import os
import subprocess
import sys
import time

import pytest

from graticule.cli import main
from graticule.cli.exits import Exit
from tests.serving import Server

MINE = '''
import time
from typing import Annotated
from pydantic import Field
from graticule import File, OutputFile, RunContext, process

@process
def add(a: float, b: Annotated[float, Field(ge=0)] = 1.0) -> float:
    """Add two numbers."""
    print("adding")
    return a + b

@process
def count_bytes(source: File) -> int:
    """Count the bytes of a file."""
    return len(source.read_bytes())

@process
def draw(size: int = 40000, *, context: RunContext) -> OutputFile:
    """Write a file of some bytes."""
    path = context.folder / "drawing.bin"
    path.write_bytes(bytes(size))
    return OutputFile(path)

@process(job_control=["sync-execute"])
def draw_at_once(size: int = 40000, *, context: RunContext) -> OutputFile:
    """Write a file of some bytes, only synchronously."""
    return draw(size, context=context)

@process
def joined(words: list[str]) -> str:
    """Join words."""
    return "+".join(words)

@process
def sleep(seconds: float, *, context: RunContext) -> str:
    """Sleep."""
    for step in range(int(seconds * 10)):
        context.report(min(99, step), "sleeping")
        time.sleep(0.1)
    return "awake"

@process
def fail() -> str:
    """Fail."""
    raise RuntimeError("no luck")

@process(job_control=["sync-execute"])
def at_once() -> str:
    """Run only synchronously."""
    return "done"
'''


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    path = tmp_path_factory.mktemp("plugin") / "mine.py"
    path.write_text(MINE)
    return path


@pytest.fixture(scope="module")
def service(mine):
    with Server(mine.parent / "home", [str(mine)]) as running:
        yield running


@pytest.fixture
def here(service, tmp_path, monkeypatch):
    """Stand in a folder of one's own, with a service of `mine` to ask."""
    monkeypatch.setenv("GRATICULE_URL", service.url)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(capsys):
    return json.loads(capsys.readouterr().out)


def test_processes_are_listed_and_described(here, capsys):
    assert main(["processes", "--json"]) == Exit.DONE
    assert {"add", "draw", "count-bytes"} <= {process["id"] for process in told(capsys)}

    assert main(["describe", "add"]) == Exit.DONE
    assert "number, at least 0   default 1.0" in capsys.readouterr().out


def test_an_execution_prints_its_values(here, capsys):
    assert main(["execute", "add", "a=2", "b=0.5"]) == Exit.DONE
    assert capsys.readouterr().out == "result: 2.5\n"


def test_a_process_that_runs_only_at_once_is_run_at_once(here, capsys):
    assert main(["execute", "at-once", "--json"]) == Exit.DONE
    assert told(capsys) == {"result": "done"}


def test_an_output_that_is_a_file_is_written(here, capsys):
    assert main(["execute", "draw", "--output-dir", "out"]) == Exit.DONE

    (path,) = (here / "out").iterdir()
    assert path.stat().st_size == 40000
    assert str(path.name) in capsys.readouterr().out


@pytest.mark.parametrize("size", [4000, 40000, 3_000_000], ids=["small", "middle", "large, so a link"])
@pytest.mark.parametrize("process", ["draw", "draw-at-once"])
def test_a_file_keeps_the_name_that_its_process_gave_it(here, capsys, process, size):
    assert main(["execute", process, f"size={size}", "--json"]) == Exit.DONE

    assert told(capsys)["result"] == {"file": "drawing.bin", "size": size}
    assert (here / "drawing.bin").stat().st_size == size


def test_files_of_results_overwrite_nothing(here, capsys):
    (here / "drawing.bin").write_text("mine")
    main(["execute", "draw", "--async"])
    job = capsys.readouterr().out.strip()
    main(["job", job, "--wait"])
    capsys.readouterr()

    assert main(["results", job, "--json"]) == Exit.DONE

    assert told(capsys)["result"]["file"] == "drawing-1.bin"
    assert (here / "drawing.bin").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "result"),
    [(["words=a"], "a"), (["words=a", "words=b"], "a+b"), (['words=["a","b"]'], "a+b")],
    ids=["one", "repeated", "JSON"],
)
def test_a_list_of_texts_is_given_as_words_or_as_json(here, capsys, words, result):
    assert main(["execute", "joined", *words, "--json"]) == Exit.DONE
    assert told(capsys) == {"result": result}


def test_a_local_file_is_uploaded(here, capsys):
    (here / "words.bin").write_bytes(b"hello")

    assert main(["execute", "count-bytes", "source=words.bin", "--json"]) == Exit.DONE
    assert told(capsys) == {"result": 5}


def test_refused_inputs_are_named_as_the_local_run_names_them(here, mine, capfd):
    assert main(["execute", "add", "b=-5", "c=1"]) == Exit.BAD_INPUT
    remote = capfd.readouterr().err

    assert main(["run", f"{mine}:add", "b=-5", "c=1"]) == Exit.BAD_INPUT
    assert sorted(capfd.readouterr().err.splitlines()) == sorted(remote.splitlines())


def test_a_failed_job_has_its_own_exit_code_and_says_why(here, capsys):
    assert main(["execute", "fail"]) == Exit.JOB_FAILED
    assert "no luck" in capsys.readouterr().err


def test_a_job_is_started_waited_for_read_and_removed(here, capsys):
    assert main(["execute", "add", "a=1", "--async"]) == Exit.DONE
    job = capsys.readouterr().out.strip()

    assert main(["job", job, "--wait", "--json"]) == Exit.DONE
    assert told(capsys)["status"] == "successful"
    assert main(["results", job, "--json"]) == Exit.DONE
    assert told(capsys) == {"result": 2.0}
    assert main(["job", job, "--log"]) == Exit.DONE
    assert capsys.readouterr().out == "adding\n"
    assert main(["dismiss", job]) == Exit.DONE
    assert main(["job", job]) == Exit.NOT_FOUND


def test_waiting_may_end_before_the_job_does(here, capsys):
    assert main(["execute", "sleep", "seconds=30", "--timeout", "0.3"]) == Exit.WAIT_EXPIRED

    assert main(["jobs", "--status", "running", "--status", "accepted", "--json"]) == Exit.DONE
    (job,) = told(capsys)
    assert main(["dismiss", job["id"], "--json"]) == Exit.DONE
    assert told(capsys)[0]["status"] == "dismissed"
    assert main(["job", job["id"], "--wait"]) == Exit.JOB_FAILED


def test_jobs_are_listed_by_process(here, capsys):
    for number in range(3):
        main(["execute", "add", f"a={number}"])
    main(["execute", "at-once"])
    capsys.readouterr()

    main(["jobs", "--process", "add", "--limit", "2", "--json"])

    assert [job["processID"] for job in told(capsys)] == ["add", "add"]


def test_what_is_not_there_is_not_found(here, capsys):
    assert main(["describe", "nothing"]) == Exit.NOT_FOUND
    assert main(["job", "nothing"]) == Exit.NOT_FOUND
    assert main(["results", "nothing", "--json"]) == Exit.NOT_FOUND
    assert json.loads(capsys.readouterr().err.splitlines()[-1])["exitCode"] == 3


def test_a_token_opens_its_workspace_alone(serve, capsys):
    server = serve(
        config=f"""
[workspaces]
names = ["default", "east"]

[[security.tokens]]
actor = "ada"
sha256 = "{sha256("s3cret")}"
workspaces = ["east"]
"""
    )

    def asked(*arguments):
        return main(["processes", "--url", server.url, *arguments])

    assert asked("--workspace", "east") == Exit.NOT_ALLOWED
    assert asked("--workspace", "east", "--token", "s3cret") == Exit.DONE
    assert asked("--token", "s3cret") == Exit.NOT_FOUND


def test_a_sample_is_known_in_every_workspace(serve, capsys):
    server = serve(config='[workspaces]\nnames = ["default", "east"]\n')
    for _ in range(100):
        if (server.home / "samples").is_dir():
            break
        time.sleep(0.1)

    for workspace in ("east", "default"):
        asked = ["raster-statistics", "raster=sample:elevation.tif", "percentiles=[5,95]", "--json"]

        assert main(["execute", *asked, "--url", server.url, "--workspace", workspace]) == Exit.DONE
        (band,) = told(capsys)["statistics"]
        assert [one["percentile"] for one in band["percentiles"]] == [5, 95]


@pytest.mark.parametrize("name", ["add", "Sub", "sub-two", "ready"])
def test_a_file_may_be_served_for_one_of_its_processes(serve, tmp_path, capsys, name):
    path = tmp_path / "my_processes.py"
    path.write_text(MINE + CLASS_FORM)
    server = serve(f"{path}:{name}")

    main(["processes", "--url", server.url, "--json"])

    identifier = {"Sub": "sub", "sub-two": "sub-two", "ready": "sub-two"}.get(name, name)
    found = {process["id"] for process in told(capsys)}
    assert found & {"add", "draw", "sub", "sub-two"} == {identifier}
    assert main(["execute", identifier, "a=5", "--url", server.url, "--json"]) == Exit.DONE
    assert told(capsys) == {"result": 4.0 if name != "add" else 6.0}


CLASS_FORM = """
from graticule import OutputValue
from graticule.ogc.processes import Input, Output, ProcessDescription

class Sub:
    def __init__(self, id="sub"):
        self.description = ProcessDescription(
            id=id, version="1", inputs={"a": Input(schema={"type": "number"})},
            outputs={"result": Output(schema={"type": "number"})},
        )

    description = None

    def run(self, inputs, context):
        return {"result": OutputValue(value=inputs["a"].value - 1.0)}

ready = Sub("sub-two")
"""


def test_an_entry_point_may_name_one_process_of_a_module(tmp_path, capsys):
    package = tmp_path / "site"
    metadata = package / "subtraction-1.0.dist-info"
    metadata.mkdir(parents=True)
    (package / "subtraction.py").write_text(MINE + CLASS_FORM)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: subtraction\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[graticule.processes]\nsub = subtraction:Sub\n")
    paths = os.pathsep.join([str(package), *filter(None, [os.environ.get("PYTHONPATH")])])

    with Server(tmp_path / "home", environment={"PYTHONPATH": paths}) as server:
        assert main(["execute", "sub", "a=5", "--url", server.url, "--json"]) == Exit.DONE
        assert told(capsys) == {"result": 4.0}
        assert main(["describe", "add", "--url", server.url]) == Exit.NOT_FOUND


def test_a_name_that_a_file_does_not_have_is_reported_and_fails_only_itself(serve, mine, capsys):
    server = serve(f"{mine}:nothing")

    assert main(["processes", "--url", server.url]) == Exit.DONE
    assert "it has no process 'nothing'" in server.log


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


UNDESCRIBED = """

class Foreign: ...

@process
def estimate(thing: Foreign) -> int:
    return 1
"""


def test_a_process_that_cannot_be_described_is_reported_and_fails_only_itself(serve, tmp_path, capsys):
    path = tmp_path / "my_processes.py"
    path.write_text(MINE + UNDESCRIBED)
    server = serve(str(path))

    assert main(["execute", "add", "a=5", "--url", server.url, "--json"]) == Exit.DONE
    assert main(["describe", "estimate", "--url", server.url]) == Exit.NOT_FOUND
    assert "function 'estimate': the type of parameter 'thing' cannot be described" in server.log
    assert "use str, float" in server.log


def test_a_second_server_on_the_same_home_is_refused(serve, mine):
    server = serve(str(mine))

    second = subprocess.run(
        [sys.executable, "-m", "graticule", "serve", "--home", str(server.home), "--port", "0"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert second.returncode == Exit.MISCONFIGURED
    assert str(server.pid) in second.stderr


def test_a_server_is_replaced_when_its_file_changes(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    command = [sys.executable, "-m", "graticule", "serve", str(path), "--home", str(tmp_path / "home"), "--port", "0"]
    with subprocess.Popen(
        [*command, "--reload"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            first = server.stdout.readline()
            path.write_text(MINE.replace("Add two numbers", "Add them"))
            second = server.stdout.readline()
            url = second.rpartition(" ")[2].strip()

            described = subprocess.run(
                [sys.executable, "-m", "graticule", "describe", "add", "--url", url],
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            server.terminate()
        assert server.wait(20) == 0

    assert first.startswith("Graticule answers at http://127.0.0.1:")
    assert "Add them" in described.stdout


def test_operators_hold_the_queue_and_let_it_go(here, capsys):
    assert main(["queue", "pause", "process:add", "--reason", "why not"]) == Exit.DONE
    main(["execute", "add", "a=1", "--async", "--label", "held"])
    job = capsys.readouterr().out.split()[-1]
    main(["queue", "show"])
    shown = capsys.readouterr().out
    assert main(["queue", "priority", job, "3"]) == Exit.DONE
    assert capsys.readouterr().out == f"{job}: position 1 in the queue\n"
    assert main(["queue", "resume", "process:add"]) == Exit.DONE

    assert "waiting: 1, running: 0" in shown
    assert "why not" in shown
    assert main(["job", job, "--wait"]) == Exit.DONE
    assert main(["queue", "pause", "nonsense"]) == Exit.BAD_INPUT
    assert main(["queue", "pause", "process:nobody"]) == Exit.NOT_FOUND


def test_an_ended_job_is_sent_again(here, capsys):
    main(["execute", "add", "a=4", "--async"])
    job = capsys.readouterr().out.strip()
    main(["job", job, "--wait"])
    capsys.readouterr()

    assert main(["again", job]) == Exit.DONE
    other = capsys.readouterr().out.strip()

    assert other != job
    assert main(["job", other, "--wait"]) == Exit.DONE


def test_many_jobs_are_dismissed_once_that_is_confirmed(here, capsys, monkeypatch):
    for number in range(3):
        main(["execute", "add", f"a={number}", "--async", "--label", "gone"])
    for job in capsys.readouterr().out.split():
        main(["job", job, "--wait"])
    capsys.readouterr()
    many = ["dismiss", "--label", "gone", "--status", "successful"]

    assert main([*many, "--dry-run"]) == Exit.DONE
    assert capsys.readouterr().out == "would be dismissed: 3\n"
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert main(many) == Exit.INTERRUPTED
    assert "Dismiss 3 jobs?" in capsys.readouterr().err
    assert main([*many, "--yes"]) == Exit.DONE
    assert capsys.readouterr().out == "stopped: 0, removed: 3\n"
    assert main(["jobs", "--label", "gone", "--json"]) == Exit.DONE
    assert told(capsys) == []


@pytest.mark.parametrize("arguments", [[], ["some-job", "--status", "accepted"]])
def test_dismissing_takes_jobs_or_filters(here, capsys, arguments):
    assert main(["dismiss", *arguments]) == Exit.USAGE
    assert "--status" in capsys.readouterr().err
