"""Settings come from defaults, a file, variables and options; what is not known is refused by name."""

import hashlib
from pathlib import Path

import msgspec
import pytest

from graticule.errors import InvalidSetting
from graticule.settings import (
    Settings,
    default_of,
    iter_settings,
    read_settings,
    setting_names,
    variable_of,
)

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"
SIGNING = "whsec_" + "c2VjcmV0" * 4
HASH = hashlib.sha256(b"s3cret").hexdigest()


def of_file(folder: Path, text: str, name: str = "graticule.toml", **environ: str):
    path = folder / name
    path.write_text(text)
    return read_settings(path, environ=environ)


# --- where values come from ----------------------------------------------------------------------------------------


def test_without_anything_a_laptop_is_served():
    settings = read_settings(environ={}).settings

    assert settings == Settings()
    assert (settings.server.host, settings.server.port, settings.jobs.workers) == ("127.0.0.1", 8080, 2)
    assert settings.database.url == ""


def test_later_sources_win(tmp_path):
    path = tmp_path / "graticule.toml"
    path.write_text("[server]\nport = 1\nhost = '::1'\n[jobs]\nworkers = 3\n")
    environ = {"GRATICULE_SERVER__PORT": "2", "GRATICULE_JOBS__WORKERS": "4"}

    effective = read_settings(path, environ=environ, options={"server.port": (0, "--port")})

    assert effective.settings.server.port == 0
    assert effective.settings.jobs.workers == 4
    assert effective.settings.server.host == "::1"
    names = ("server.port", "jobs.workers", "server.host", "server.title")
    assert [effective.source(name) for name in names] == ["--port", "GRATICULE_JOBS__WORKERS", str(path), "default"]


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("GRATICULE_JOBS__WORKERS", "7", 7),
        ("GRATICULE_JOBS__LEASE_S", "2.5", 2.5),
        ("GRATICULE_SECURITY__ALLOW_PRIVATE_ADDRESSES", "yes", True),
        ("GRATICULE_SECURITY__ALLOW_PRIVATE_ADDRESSES", "false", False),
        ("GRATICULE_SERVER__TITLE", "7", "7"),
        ("GRATICULE_WORKSPACES__NAMES", "default, east", ("default", "east")),
        ("GRATICULE_WORKSPACES__NAMES", '["default","east"]', ("default", "east")),
        ("GRATICULE_SERVER__CORS_ORIGINS", "", ()),
        ("GRATICULE_NOTIFICATIONS__RETRIES_S", "1, 2.5", (1.0, 2.5)),
        ("GRATICULE_NOTIFICATIONS__RETRIES_S", "[1, 2.5]", (1.0, 2.5)),
    ],
)
def test_a_variable_is_read_as_what_its_setting_needs(variable, text, value):
    settings = read_settings(environ={variable: text}).settings

    section, name = variable.removeprefix("GRATICULE_").lower().split("__")
    assert getattr(getattr(settings, section), name) == value


def test_every_setting_has_a_variable():
    assert variable_of("jobs.memory_limit_mib") == "GRATICULE_JOBS__MEMORY_LIMIT_MIB"
    assert variable_of("security.allow_private_addresses") == "GRATICULE_SECURITY__ALLOW_PRIVATE_ADDRESSES"


def test_other_variables_and_those_of_the_client_are_no_settings():
    environ = {"HOME": "/", "GRATICULE_URL": "http://h", "GRATICULE_TOKEN": "t", "GRATICULE_WORKSPACE": "w"}

    assert read_settings(environ=environ).settings == Settings()


def test_paths_in_a_file_start_at_its_folder(tmp_path):
    text = "[storage]\nhome = 'data'\n[processes]\nplugins = ['mine.py', 'package.module', '/abs.py']\n"

    settings = of_file(tmp_path, text).settings

    assert settings.home == tmp_path / "data"
    assert settings.processes.plugins == (str(tmp_path / "mine.py"), "package.module", "/abs.py")


def test_a_process_has_settings_of_its_own(tmp_path):
    text = "[processes]\ndisabled = ['echo']\n[processes.hill-shade]\npython = '/opt/gdal/bin/python'\n"

    processes = of_file(tmp_path, text).settings.processes

    assert processes.disabled == ("echo",)
    assert processes.each["hill-shade"].python == "/opt/gdal/bin/python"


def test_a_variable_names_the_python_of_a_process():
    environ = {"GRATICULE_PROCESSES__HILL_SHADE__PYTHON": "/a", "GRATICULE_PROCESSES__my_own__PYTHON": "/b"}

    each = read_settings(environ=environ).settings.processes.each

    assert {name: settings.python for name, settings in each.items()} == {"hill-shade": "/a", "my_own": "/b"}


def test_variables_limit_the_jobs_of_a_process():
    environ = {
        "GRATICULE_PROCESSES__HILL_SHADE__TIME_LIMIT_S": "0.5",
        "GRATICULE_PROCESSES__HILL_SHADE__MEMORY_LIMIT_MIB": "300",
    }

    (settings,) = read_settings(environ=environ).settings.processes.each.values()

    assert (settings.time_limit_s, settings.memory_limit_mib, settings.disk_limit_mib) == (0.5, 300, None)


def test_a_limit_of_a_process_that_is_no_number_is_refused():
    with pytest.raises(InvalidSetting, match="memory_limit_mib"):
        read_settings(environ={"GRATICULE_PROCESSES__HILLSHADE__MEMORY_LIMIT_MIB": "much"})


def test_tokens_name_an_actor_and_its_workspaces(tmp_path):
    token = f"[[security.tokens]]\nactor='ada'\nsha256='{HASH}'\nworkspaces=['east']\n"
    text = f"[workspaces]\nnames=['default','east']\n{token}"

    (read,) = of_file(tmp_path, text).settings.security.tokens

    assert (read.actor, read.sha256, read.workspaces) == ("ada", HASH, ("east",))


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "name", "near"),
    [
        ({"GRATICULE_JOBS__WORKER": "3"}, "GRATICULE_JOBS__WORKER", "GRATICULE_JOBS__WORKERS"),
        ({"GRATICULE_DATABASE_URL": "x"}, "GRATICULE_DATABASE_URL", "GRATICULE_DATABASE__URL"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_known_one(environ, name, near):
    with pytest.raises(InvalidSetting) as caught:
        read_settings(environ=environ)

    assert caught.value.name == name
    assert f"did you mean {near}?" in caught.value.reason


@pytest.mark.parametrize(
    ("text", "name", "near"),
    [
        ("[jobs]\nworker = 3\n", "jobs.worker", "jobs.workers"),
        ("[sever]\nport = 3\n", "sever", "server"),
        ("[processes.echo]\npythn = 'x'\n", "processes.echo.pythn", "processes.echo.python"),
        ("[[security.tokens]]\nactr = 'a'\n", "security.tokens.actr", "security.tokens.actor"),
        ("[[notifications.secrets]]\nsecrt = 'a'\n", "notifications.secrets.secrt", "notifications.secrets.secret"),
    ],
    ids=["setting", "section", "setting of a process", "member of a token", "member of a secret"],
)
def test_an_unknown_key_of_a_file_is_refused_by_name(tmp_path, text, name, near):
    with pytest.raises(InvalidSetting) as caught:
        of_file(tmp_path, text)

    assert caught.value.name == name
    assert near in caught.value.reason
    assert "graticule.toml" in caught.value.reason


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("[jobs]\nworkers = 0\n", "jobs.workers"),
        ("[jobs]\nworkers = 'three'\n", "jobs.workers"),
        ("[jobs]\nexecutor = 'elsewhere'\n", "jobs.executor"),
        ("[server]\nport = 70000\n", "server.port"),
        ("[server]\npublic_url = 'example.org'\n", "server.public_url"),
        ("[server]\ntrusted_proxies = ['here']\n", "server.trusted_proxies"),
        ("[database]\nurl = 'mysql://h/d'\n", "database.url"),
        ("[workspaces]\nnames = ['default', 'jobs']\n", "workspaces.names"),
        ("[workspaces]\nnames = ['a/b']\ndefault = 'a/b'\n", "workspaces.names"),
        ("[workspaces]\nnames = ['east']\n", "workspaces.default"),
        ("[[security.tokens]]\nactor = 'a'\nsha256 = 'plain'\n", "security.tokens"),
        (f"[[security.tokens]]\nactor = 'a'\nsha256 = '{HASH}'\nworkspaces = ['west']\n", "security.tokens"),
        ("[security]\nsecret_key = 'short'\n", "security.secret_key"),
        ("[[notifications.secrets]]\nsecret = 'plain'\n", "notifications.secrets"),
        (f"[[notifications.secrets]]\nsecret = '{SIGNING}'\nworkspaces = ['west']\n", "notifications.secrets"),
        ("[notifications]\nretries_s = [-1]\n", "notifications.retries_s"),
        ("[limits]\npage_size = 20\npage_max = 10\n", "limits.page_size"),
        ("[jobs]\nexecutor = 'kubernetes'\n", "jobs.executor"),
        ("[jobs]\ndask_scheduler = 'tcp://h:8786'\n", "jobs.dask_scheduler"),
        ("[jobs]\nexecutor = 'dask'\ndask_scheduler = 'h:8786'\n", "jobs.dask_scheduler"),
        ("[jobs]\nexecutor = 'dask'\ndask_scheduler = 'tcp://h'\n", "jobs.dask_scheduler"),
        ("[jobs]\nexecutor = 'dask'\ndask_scheduler = 'tcp://h:99999'\n", "jobs.dask_scheduler"),
        ("[storage]\nurl = 'https://bucket.example'\n", "storage.url"),
        ("[storage]\nurl = 's3:///prefix'\n", "storage.url"),
        ("[storage]\nurl = 's3://b'\nendpoint = 's3.example.org'\n", "storage.endpoint"),
        ("[storage]\nurl = 's3://b'\naccess_key_id = 'a'\n", "storage.secret_access_key"),
        ("[storage]\nsigned_urls = 60\n", "storage.signed_urls"),
        ("[storage]\nurl = 's3://b'\nsigned_urls = 700000\n", "storage.signed_urls"),
        ("[workspaces]\nresult_expiry_hours = { west = 3 }\n", "workspaces.result_expiry_hours"),
        ("[workspaces]\nresult_expiry_hours = { default = -1 }\n", "workspaces.result_expiry_hours"),
        ("[processes.echo]\nresult_expiry_hours = -1\n", "processes.each"),
        ("server = 3\n", "server"),
        ("[server\n", "--config"),
    ],
)
def test_a_value_that_does_not_fit_names_its_setting(tmp_path, text, name):
    with pytest.raises(InvalidSetting) as caught:
        of_file(tmp_path, text)

    assert caught.value.name == name


@pytest.mark.parametrize(
    "text",
    [
        "[[security.tokens]]\nactor = 'a'\nsha256 = 'plain-token'\n",
        "[[notifications.secrets]]\nsecret = 'plain-token'\n",
        "[notifications]\nsecrets = 'plain-token'\n",
        "[security]\nsecret_key = 'plain-token'\n",
    ],
)
def test_a_refused_secret_is_not_shown(tmp_path, text):
    with pytest.raises(InvalidSetting) as caught:
        of_file(tmp_path, text)

    assert "plain-token" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidSetting, match=r"absent\.toml"):
        read_settings(tmp_path / "absent.toml", environ={})


# --- what is shown -------------------------------------------------------------------------------------------------


def test_secrets_are_hidden(tmp_path):
    text = f"[database]\nurl='postgresql://u:pass@h:5432/d'\n[[security.tokens]]\nactor='ada'\nsha256='{HASH}'\n"
    text += "[storage]\nurl='s3://b'\naccess_key_id='name'\nsecret_access_key='wJalr/x://y'\n"

    shown = dict(iter_settings(of_file(tmp_path, text).settings))

    assert shown["database.url"] == "postgresql://u:********@h:5432/d"
    assert (shown["storage.access_key_id"], shown["storage.secret_access_key"]) == ("name", "********")
    assert HASH not in msgspec.json.encode(shown).decode()


def test_a_workspace_and_a_process_may_keep_results_for_another_time(tmp_path):
    text = "[storage]\nresult_expiry_hours=24\n[workspaces]\nresult_expiry_hours={default=48}\n"
    text += "[processes.echo]\nresult_expiry_hours=0\n"

    settings = of_file(tmp_path, text).settings

    assert settings.storage.result_expiry_hours == 24
    assert settings.workspaces.result_expiry_hours == {"default": 48}
    assert settings.processes.each["echo"].result_expiry_hours == 0


def test_settings_cannot_be_changed():
    with pytest.raises(AttributeError):
        Settings().server.port = 1


@pytest.mark.parametrize("name", setting_names())
def test_the_reference_names_every_setting_with_its_variable_and_default(name):
    sections = REFERENCE.read_text(encoding="utf-8").split("\n### ")
    (section,) = [text for text in sections if text.startswith(f"`{name}`")]

    assert name == "processes.each" or f"`{variable_of(name)}`" in section
    assert f"Default: `{msgspec.json.encode(default_of(name)).decode()}`" in section


# --- a pygeoapi configuration --------------------------------------------------------------------------------------

SEED = """
processes:
  hello-world:
    processor:
      name: HelloWorld
server:
  manager:
    name: TinyDB
    connection: /tmp/pygeoapi-process-manager.db
    output_dir: /tmp/
"""


def test_a_pygeoapi_configuration_names_processors(tmp_path):
    effective = of_file(tmp_path, SEED, "pygeoapi-config.yml")

    assert effective.settings.processes.each["hello-world"].processor == {"name": "HelloWorld"}
    assert effective.settings.storage.folder == "/tmp/"


def test_tinydb_becomes_the_embedded_ledger_with_a_warning(tmp_path):
    effective = of_file(tmp_path, SEED, "pygeoapi-config.yml")

    assert effective.settings.database.url == ""
    assert any("TinyDB" in warning for warning in effective.warnings)


def test_processes_may_stand_among_the_resources(tmp_path):
    text = """
resources:
  shapely-functions:
    type: process
    processor:
      name: pygeoapi.process.shapely_functions.ShapelyFunctionsProcessor
  lakes:
    type: collection
    title: Lakes
"""

    effective = of_file(tmp_path, text, "config.yaml")

    assert list(effective.settings.processes.each) == ["shapely-functions"]
    assert any("left out: lakes" in warning for warning in effective.warnings)


@pytest.mark.parametrize(
    "connection",
    [
        "{host: db, port: 5433, database: jobs, user: me, password: p@ss}",
        "postgresql://me:p%40ss@db:5433/jobs",
        "postgresql+psycopg2://me:p%40ss@db:5433/jobs",
    ],
)
def test_the_postgresql_manager_becomes_the_database(tmp_path, connection):
    text = f"server:\n  manager:\n    name: PostgreSQL\n    connection: {connection}\n"

    assert of_file(tmp_path, text, "c.yml").settings.database.url == "postgresql://me:p%40ss@db:5433/jobs"


def test_another_manager_is_refused_by_name(tmp_path):
    with pytest.raises(InvalidSetting) as caught:
        of_file(tmp_path, "server:\n  manager:\n    name: MongoDB\n", "c.yml")

    assert caught.value.name == "server.manager.name"
    assert "'MongoDB'" in caught.value.reason


def test_address_title_and_origins_are_taken_from_a_pygeoapi_configuration(tmp_path):
    text = """
server:
  bind: {host: 0.0.0.0, port: 5000}
  url: https://example.org/ogc/
  cors: false
  gzip: true
metadata:
  identification:
    title: {en: Our service, fr: Notre service}
logging: {level: ERROR}
"""

    effective = of_file(tmp_path, text, "c.yml")
    server = effective.settings.server

    assert (server.host, server.port, server.public_url) == ("0.0.0.0", 5000, "https://example.org/ogc")
    assert (server.title, server.cors_origins) == ("Our service", ())
    assert any("server.gzip" in warning and "logging" in warning for warning in effective.warnings)


def test_the_loopback_address_of_a_sample_configuration_is_no_public_address(tmp_path):
    settings = of_file(tmp_path, "server:\n  url: http://localhost:5000\n", "c.yml").settings

    assert settings.server.public_url == ""


def test_variables_in_a_pygeoapi_configuration_are_replaced(tmp_path):
    text = "server:\n  bind: {host: '${HOST}', port: ${PORT:-5000}}\n# ${COMMENT}\n"

    server = of_file(tmp_path, text, "c.yml", HOST="::1").settings.server

    assert (server.host, server.port) == ("::1", 5000)


def test_a_process_without_a_processor_is_refused(tmp_path):
    with pytest.raises(InvalidSetting) as caught:
        of_file(tmp_path, "processes:\n  hello-world: {}\n", "c.yml")

    assert caught.value.name == "processes.hello-world"
