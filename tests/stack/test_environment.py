"""The lab isolates its programs and libraries from the user's environment."""

from __future__ import annotations

import ast
import json
import os
import resource
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from labservices.settings import read_settings
from labstack.backends.processes import process
from labstack.backends.processes.java.java import find_java
from labstack.backends.processes.process import Command
from labstack.clients import http
from labstack.clients.databases import connect, libpq_variables
from labstack.config import environment
from labstack.config.paths import LabPaths
from labstack.config.settings import service_environment
from tests.services.postgres import postgres_server
from tests.stack.labs import ROOT, LabHarness, run_python

HOSTILE = {
    # HTTP clients, TLS
    **dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"), "http://127.0.0.1:9"),
    **dict.fromkeys(("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), "/gone"),
    # libpq
    "PGHOST": "192.0.2.1",
    "PGHOSTADDR": "192.0.2.1",
    "PGPORT": "9",
    "PGSERVICE": "gone",
    "PGSERVICEFILE": "/gone",
    "PGPASSFILE": "/gone",
    "PGOPTIONS": "-c search_path=gone -c default_transaction_read_only=on",
    "PGSSLMODE": "verify-full",
    "PGGSSENCMODE": "require",
    "PGCHANNELBINDING": "require",
    "PGREQUIREAUTH": "none",
    "PGTARGETSESSIONATTRS": "standby",
    "PGCLIENTENCODING": "LATIN1",
    "PGTZ": "Pacific/Chatham",
    "PGDATESTYLE": "German",
    "PGCONNECT_TIMEOUT": "x",
    "PGDATA": "/gone",
    "PG_COLOR": "always",
    # Java, Kafka
    "JAVA_TOOL_OPTIONS": "-javaagent:/opt/agents/otel.jar",
    "_JAVA_OPTIONS": "-Xms2g",
    "JDK_JAVA_OPTIONS": "-XX:MaxPermSize=256m",
    "JDK_AOT_VM_OPTIONS": "-XX:+Gone",
    "CLASSPATH": "/gone",
    "KAFKA_OPTS": "-Dgone",
    # OpenTelemetry, Prometheus, Go, Grafana
    "OTEL_SDK_DISABLED": "true",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://192.0.2.1:4317",
    "OTEL_TRACES_SAMPLER": "always_off",
    "OTEL_PROPAGATORS": "gone",
    "OTEL_PYTHON_CONTEXT": "gone",
    "OTEL_RESOURCE_ATTRIBUTES": "service.name=gone",
    "PROMETHEUS_MULTIPROC_DIR": "/gone",
    "GOMEMLIMIT": "1MiB",
    "GODEBUG": "gone=1",
    "GF_SERVER_HTTP_PORT": "9",
    # other programs' general names, which are the services' names without the lab's prefix
    "LOG_LEVEL": "INFO",
    "ORDER_DEADLINE_SECONDS": "0.001",
    "DATABASE_URL": "mysql://gone",
    "SERVICE_VERSION": "2.1",
    "HTTP_PORT": "9",
    "UVICORN_WORKERS": "4",
    "WEB_CONCURRENCY": "4",
    "LAB_LOG_LEVEL": "",
    "LAB_ORDER_DEADLINE_SECONDS": "",
    "LAB_MODE": "local",
    "LAB_OBSERVABILITY": "installed",
    # the implementations that Python's libraries choose
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "cpp",
    "PSYCOPG_IMPL": "c",
    # locale, time, display
    "LC_ALL": "tr_TR.UTF-8",
    "LANG": "az_AZ",
    "LANGUAGE": "tr",
    "TZ": "Pacific/Chatham",
    "COLUMNS": "1",
    "PAGER": "/gone",
}
"""Environment variables that others set for their own programs, and empty ones of the lab."""


LEARNERS_CODE = ROOT / "labkit" / "build" / "files"


def sources(*more: str) -> Iterator[tuple[str, ast.Module]]:
    for folder in ("labkit", "labservices", "lab-stack", *more):
        for file in sorted((ROOT / folder).rglob("*.py")):
            if LEARNERS_CODE in file.parents:
                continue
            yield str(file.relative_to(ROOT)), ast.parse(file.read_text(encoding="utf-8"))


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Yield each call with its dotted name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_process_inherits_what_the_list_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process gets the caller's listed variables, a fixed locale and time zone, and variables that the lab sets."""
    for name, value in {**HOSTILE, "PYTHONHOME": "/gone", "LD_PRELOAD": "/gone"}.items():
        monkeypatch.setenv(name, value)
    found = environment.clean({"OWN": "1"})
    assert set(found) <= environment.INHERITED | {"LC_ALL", "TZ", "PYTHONPATH", "OWN"}
    assert (found["OWN"], found["LC_ALL"], found["TZ"]) == ("1", environment.LOCALE, "UTC")
    assert "/gone" not in found.values()
    assert environment.clean(downloads=True)["https_proxy"] == HOSTILE["https_proxy"]


def test_processes_start_in_one_place() -> None:
    """Every module that starts a process passes it a clean environment."""
    starters = {"subprocess.run", "subprocess.Popen", "subprocess.check_output", "os.system", "os.execve", "os.execv"}
    found = {
        (file, name, "env" in {k.arg for k in call.keywords}) for file, tree in sources() for name, call in calls(tree)
    }
    labstack = "lab-stack/labstack"
    assert {one for one in found if one[1] in starters} == {
        (f"{labstack}/config/environment.py", "subprocess.run", True),
        (f"{labstack}/backends/processes/process.py", "subprocess.Popen", True),
        (f"{labstack}/backends/processes/foreground.py", "subprocess.Popen", True),
        (f"{labstack}/backends/kubernetes/kubectl.py", "subprocess.Popen", True),
        (f"{labstack}/install/sources/from_go.py", "subprocess.Popen", True),
        ("labkit/build/program.py", "subprocess.Popen", True),
        ("labkit/build/instances/instance.py", "subprocess.Popen", True),
        (f"{labstack}/cli/looking.py", "os.execve", False),  # its third argument is the environment
    }


def test_clients_come_from_one_place() -> None:
    """Connections to databases and HTTP clients come from the factories that ignore the environment."""
    makers = (
        "httpx.Client",
        "httpx.get",
        "httpx.post",
        "httpx.put",
        "httpx.request",
        "psycopg.connect",
        "create_engine",
    )
    labstack = "lab-stack/labstack"
    assert {
        (file, name) for file, tree in sources("tools", "benchmarks") for name, _ in calls(tree) if name in makers
    } == {
        (f"{labstack}/clients/http.py", "httpx.Client"),
        (f"{labstack}/clients/databases.py", "psycopg.connect"),
        (f"{labstack}/install/sources/client.py", "httpx.Client"),  # downloads use the user's proxy
        ("labservices/storage/database.py", "create_engine"),
        (f"{labstack}/clients/databases.py", "create_engine"),
        ("labservices/extension.py", "psycopg.connect"),
        ("lab-stack/connect/watcher.py", "psycopg.connect"),  # in a clean environment
    }


def test_connection_ignores_the_variables_of_libpq(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection reaches the database of its URL, whatever libpq's variables say; they are removed."""
    with postgres_server() as server:
        for name, value in HOSTILE.items():
            monkeypatch.setenv(name, value)
        with connect(server.url("postgres"), autocommit=True) as connection:
            shown = [connection.execute(f"SHOW {name}").fetchone() for name in ("search_path", "DateStyle")]
            assert shown == [('"$user", public',), ("ISO, MDY",)]
            assert connection.info.encoding == "utf-8"
    assert not libpq_variables() & set(os.environ)


def test_learners_requests_bypass_the_proxy_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain request of a learner's cell to this machine uses no proxy; one to another machine does."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "example.org")
    monkeypatch.delenv("NO_PROXY", raising=False)
    http.exempt_loopback()
    assert all(urllib.request.proxy_bypass(host) for host in ("127.0.0.1", "localhost", "example.org"))
    assert not urllib.request.proxy_bypass("example.com")
    httpx.Client().close()
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == f"example.org,{http.LOOPBACK}"


@pytest.mark.parametrize("name", ["JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS"])
def test_java_is_found_whatever_options_are_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options for other Java programs do not hide a good Java from the lab."""
    monkeypatch.setenv(name, "-javaagent:/opt/agents/otel.jar" if name != "_JAVA_OPTIONS" else "-Xms900g")
    find_java.cache_clear()
    assert find_java().version >= 17
    find_java.cache_clear()


@pytest.mark.parametrize("component", ["kafka", "connect"])
def test_java_has_a_fixed_locale(component: str) -> None:
    """Every Java of the lab runs in English and UTC, in both backends."""
    flags = (ROOT / "lab-stack" / component / "jvm.options").read_text().splitlines()
    assert {"-Duser.language=en", "-Duser.country=US", "-Duser.timezone=UTC", "-Dfile.encoding=UTF-8"} <= set(flags)


def test_service_gets_the_settings_of_the_lab_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """General names of other programs and empty variables do not change a service's settings; the lab's names do."""
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    for name, value in service_environment(
        database_url="postgresql://a:b@127.0.0.1:1/order", kafka="127.0.0.1:2", port=3, datasets="/d"
    ).items():
        monkeypatch.setenv(name, value)
    found = read_settings()
    assert (found.log_level, found.order_deadline_seconds, found.service_version) == ("info", 30, "v1")
    assert (found.database_url, found.http_port) == ("postgresql://a:b@127.0.0.1:1/order", 3)
    monkeypatch.setenv("LAB_LOG_LEVEL", "DEBUG")
    assert read_settings().log_level == "debug"


def test_component_may_open_many_files_and_keeps_them_private(tmp_path: Path) -> None:
    """A component that is started with few allowed files and an open umask gets more files and private ones."""
    report = "import os, resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], oct(os.umask(0)), flush=True)"
    code = f"""
import os, resource
from pathlib import Path
from labservices.settings import read_settings
from labstack.backends.processes import process
resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
os.umask(0)
command = process.Command([{sys.executable!r}, "-c", {report!r}], cwd=Path({str(tmp_path)!r}))
identity = process.spawn(command, Path({str(tmp_path / "a.log")!r}), "no-lab/test")
os.waitpid(identity.pid, 0)
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=environment.clean())
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = environment.OPEN_FILES if hard < 0 else min(environment.OPEN_FILES, hard)
    assert (tmp_path / "a.log").read_text().split() == [str(wanted), "0o77"]


def test_marker_stays_the_last_variable(tmp_path: Path) -> None:
    """The marker is the last environment variable, where the fork server overwrites it."""
    command = Command([], tmp_path, env={process.MARKER: "other", "A": "1"})
    assert list(process.environment(command, "lab/kafka").items())[-1] == (process.MARKER, "lab/kafka")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_output_fits_every_terminal(encoding: str, tmp_path: Path) -> None:
    """A command prints its tables and errors on a terminal that can't show some of the characters."""
    variables = {"PYTHONIOENCODING": encoding, "XDG_STATE_HOME": str(tmp_path), "LAB_NAME": "terminal"}
    for words, status in ((["status"], 0), (["start", "größe"], 1)):
        done = subprocess.run(
            [sys.executable, "-m", "labstack.cli", *words], capture_output=True, env=environment.clean(variables)
        )
        printed = (done.stdout + done.stderr).decode(encoding)
        assert done.returncode == status, printed
        assert "Traceback" not in printed


def test_command_can_read_its_files_under_a_closed_umask(tmp_path: Path) -> None:
    """A shell whose umask hides new files from their owner does not break a command."""
    code = f"""
import os
from pathlib import Path
from labstack.cli import main
from labstack.config.paths import writable_folder, write_atomically
os.umask(0o777)
main(["completion", "bash"], standalone_mode=False)
write_atomically(writable_folder(Path({str(tmp_path)!r}) / "folder") / "file", "text")
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment.clean())
    modes = [oct(path.stat().st_mode & 0o777) for path in (tmp_path / "folder", tmp_path / "folder" / "file")]
    assert modes == ["0o700", "0o600"]


NOTEBOOK = """
from labkit.session import begin
lab, shop, look, tasks = begin("01")
order = shop.follow(shop.place_order("ada", "lisbon", {"earl-grey": 1}))
query = "SELECT count(*) AS n, count(traceparent) AS traced, min(length(traceparent)) AS size FROM outbox"
sent = look.db.rows("order", query)
print(order.status, look.db.rows("order", "SHOW client_encoding").iloc[0, 0], *sent.iloc[0])
import json, urllib.request
print(len(json.load(urllib.request.urlopen(f"{lab.endpoints.connect}/connectors"))))
"""


@pytest.mark.skipif(os.environ.get("LAB_MODE") == "containers", reason="a container has an environment of its own")
@pytest.mark.long
def test_lab_works_in_hostile_surroundings(make_harness: Callable[..., LabHarness], tmp_path: Path) -> None:
    """A lab starts and works as usual under dozens of foreign environment variables, in a folder with an odd name."""
    cache = tmp_path / "cache"
    (cache / "saga-lab").mkdir(parents=True)
    for part in ("jars", "java", "programs"):  # without the prepared data folders of the broker and the databases
        (cache / "saga-lab" / part).symlink_to(LabPaths.of_user().cache / part)
    home = tmp_path / "zoë, 日本 \\x ${HOME} 100% #1 'q' \"d\" [x]*"
    harness = make_harness("hostile", home=home, cache=cache, environment=HOSTILE)
    harness.run_checked("up")
    order = json.loads(harness.run_checked("demo", "--json", HOSTILE="1"))
    assert order["status"] == "COMPLETED"
    printed = run_python(NOTEBOOK, harness.environment).splitlines()
    status, encoding, events, traced, size = printed[-2].split()
    assert (status, encoding, events, size) == ("COMPLETED", "UTF8", traced, "55")
    assert printed[-1] == "4"
    verdicts = json.loads(harness.run_checked("check", "--json", HOSTILE="1"))
    assert [verdict["name"] for verdict in verdicts if verdict["holds"] is not True] == []
    folders = sorted(folder.name for folder in harness.paths.state.iterdir() if folder.is_dir())
    assert folders == ["config", "data", "logs"]


@pytest.mark.parametrize("modules", ["labkit", "labstack.gateway.envoy_files", "labstack, labservices.order.handlers"])
def test_libraries_load_in_hostile_surroundings(modules: str) -> None:
    """The user's settings for other programs do not break the libraries that a command or a notebook imports."""
    run_python(f"import {modules}", environment.clean(HOSTILE))


def test_low_limit_of_open_files_is_named(tmp_path: Path) -> None:
    """Under a hard limit with which Java fails, a start names the limit instead."""
    code = f"""
import resource
from pathlib import Path
from labstack.backends.processes import process
from labstack.errors import LabError
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
try:
    process.spawn(process.Command(["true"], Path("/")), Path({str(tmp_path / "a.log")!r}), "no-lab/test")
except LabError as error:
    print(error.problem)
"""
    printed = run_python(code, environment.clean())
    assert printed.startswith("This shell allows a program 64 open files (`ulimit -n`)")
