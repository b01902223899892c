"""Run a service: ``python -m labservices SERVICE [--consumer-only]``."""

import argparse
import importlib
import logging
import os
import sys
from pathlib import Path

import labservices
from labservices.settings import SettingsError, read_settings, variable


def main() -> int:
    """Run the service that the command line names, and return the exit status."""
    names = sorted(handlers.parent.name for handlers in Path(labservices.__file__).parent.glob("*/handlers.py"))
    parser = argparse.ArgumentParser(prog="python -m labservices", description="Run one service of the lab.")
    parser.add_argument("service", choices=names)
    parser.add_argument(
        "--consumer-only", action="store_true", help="run one more consumer in the service's group, without HTTP"
    )
    arguments = parser.parse_args()
    try:
        settings = read_settings()
        if settings.http_port is None and not arguments.consumer_only:
            raise SettingsError(f"{variable('http_port')} is missing (the port of the HTTP API)")
    except SettingsError as error:
        print(f"{arguments.service}: {error}", file=sys.stderr)
        return 2
    logging.basicConfig(
        level=settings.log_level.upper(), format=f"%(asctime)s %(levelname)s {arguments.service} %(name)s: %(message)s"
    )

    from labservices import runtime  # late, so that a usage error is reported at once
    from labservices.faults import switches
    from labservices.telemetry import tracing

    service = importlib.import_module(f"labservices.{arguments.service}").service
    tracing.set_up(arguments.service, settings)
    run = runtime.consume if arguments.consumer_only else runtime.serve
    status = run(runtime.Runtime(service, settings, switches.components_for(service, settings)))
    tracing.shut_down()
    return status


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    os._exit(status)  # without waiting for threads that block on an unresponsive database
