"""Start services by forking one process that imports their common libraries once.

A service that starts on its own spends 2 s of CPU time on imports and holds 60 MB. A fork of this server already has
the libraries. In every other respect the fork equals ``python -m labservices NAME``: a separate session with its own
environment, working directory, log, command line and marker, and with the services' code as it is on disk at that
moment.

The file runs as a script (``python fork_server.py SOCKET PADDING``). It imports nothing from the lab, because the
services would share all of its imports. It listens on an abstract Unix socket and answers only its own user.

Linux only; on other systems, services start as ordinary processes.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Mapping
from typing import Any

LIBRARIES = (
    "confluent_kafka.admin",
    "fastapi.staticfiles",
    "fastapi_offline",
    "google.protobuf.json_format",
    "httptools",
    "opentelemetry.exporter.otlp.proto.common.trace_encoder",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.sdk.trace.export",
    "opentelemetry.trace.propagation.tracecontext",
    "orjson",
    "prometheus_client.core",
    "psycopg",
    "pydantic_settings",
    "sqlalchemy.dialects.postgresql",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.lifespan.on",
    "uvloop",
)
"""Third-party libraries that the services import. The services' own code is left out: a learner may edit it."""

MARKER = b"SAGA_LAB="
LARGEST_REQUEST = 1 << 20


def main(name: str) -> None:
    """Serve requests until a signal terminates this process."""
    marker = find_marker()
    if sys.path[0] == os.path.dirname(os.path.abspath(__file__)):
        del sys.path[0]  # it holds modules of the lab
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system reaps ended children
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"\0{name}")
    listener.listen(16)
    for library in LIBRARIES:
        with contextlib.suppress(ImportError):  # the service itself reports a missing library
            importlib.import_module(library)
    for folder in python_path(os.environ):
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)  # a fork gets the folders of its request
    gc.collect()
    gc.freeze()
    while True:
        connection, _ = listener.accept()
        with connection:
            if peer_user(connection) != os.getuid():
                continue
            with contextlib.suppress(OSError, ValueError):
                serve(connection, listener, marker)


def serve(connection: socket.socket, listener: socket.socket, marker: tuple[int, int]) -> None:
    """Fork for one request. The child sends its process id and runs once the client confirms it."""
    data, (log,), _, _ = socket.recv_fds(connection, LARGEST_REQUEST, 1)
    request = json.loads(data)
    if os.fork():
        os.close(log)
        return
    status = 1
    try:
        listener.close()
        connection.sendall(str(os.getpid()).encode())
        if not connection.recv(1):
            os._exit(1)  # the client has stopped waiting
        connection.close()
        set_up_child(request, log, marker)
        status = run(request["argv"])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def set_up_child(request: dict[str, Any], log: int, marker: tuple[int, int]) -> None:
    """Turn a fork into the requested process."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in (nothing, 0), (log, 1), (log, 2):
        os.dup2(source, target)
    os.close(log)
    os.close(nothing)
    os.chdir(request["cwd"])
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.path[:0] = [request["cwd"], *python_path(request["env"])]
    sys.argv[:] = request["argv"]
    write_memory(marker, request["mark"].encode())
    set_command_line([sys.executable, "-m", *request["argv"]])


def python_path(environment: Mapping[str, str]) -> list[str]:
    """Return the folders that an environment adds to Python's path."""
    return [folder for folder in environment.get("PYTHONPATH", "").split(os.pathsep) if folder]


def run(argv: list[str]) -> int:
    """Run a module as ``python -m`` does, and return the exit status."""
    try:
        runpy.run_module(argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def peer_user(connection: socket.socket) -> int:
    """Return the user id of the peer; see unix(7), SO_PEERCRED."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


# ps(1) and the lab read /proc/PID/environ and /proc/PID/cmdline. These files show memory that the program received at
# startup; see proc(5). A fork inherits its server's memory, so it overwrites the content with its own.


def find_marker() -> tuple[int, int]:
    """Return address and length of the marker's value in memory. The marker must be the last environment variable."""
    variables = ctypes.POINTER(ctypes.c_void_p).in_dll(ctypes.CDLL(None), "environ")
    number = 0
    while address := variables[number]:
        text = ctypes.string_at(address)
        if text.startswith(MARKER):
            return address + len(MARKER), len(text) - len(MARKER)
        number += 1
    raise SystemExit("the environment has no SAGA_LAB marker")


def argument_memory() -> tuple[int, int]:
    """Return address and length of the command line in memory, from fields 48 and 49 of /proc/self/stat."""
    with open("/proc/self/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    begin, end = int(fields[45]), int(fields[46])
    return begin, end - begin


def set_command_line(arguments: list[str]) -> None:
    """Set the command line that ps(1) shows, as setproctitle(3) does.

    The system shows the text up to the first NUL if the last byte of the memory is not NUL.
    """
    address, size = argument_memory()
    write_memory((address, size), " ".join(arguments).encode())
    ctypes.memmove(address + size - 1, b".", 1)


def write_memory(area: tuple[int, int], content: bytes) -> None:
    """Write a text into a memory area, truncated to its size."""
    address, size = area
    ctypes.memmove(address, content[: size - 1].ljust(size, b"\0"), size)


if __name__ == "__main__":
    main(sys.argv[1])
