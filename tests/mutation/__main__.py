"""Put a sample of bugs into a copy of the code, one at a time, and report those that the quick tests do not catch:

    python -m tests.mutation [TARGET ...] [--keep 40] [--seed 7]

cosmic-ray makes the mutants. A survivor that is listed in ``survivors.toml`` with a reason is accepted. The exit status
is 1 if another one survives.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.mutation.survivors import Mutant, accepted
from tests.mutation.targets import TARGETS, Target, is_left_out
from tests.suite.chance import SEED

ROOT = Path(__file__).resolve().parents[2]
DATABASE = "mutants.sqlite"


def copy_of_the_code(folder: Path) -> None:
    """Copy the repository's files, so that the mutants are never in the working tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def configuration(target: Target) -> str:
    """Return cosmic-ray's configuration."""
    pytest = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--timeout", "60", *target.tests]
    modules = ", ".join(f'"{module}"' for module in target.modules)
    return f"""
[cosmic-ray]
module-path = [{modules}]
timeout = {target.seconds}
excluded-modules = []
test-command = {json.dumps(shlex.join(pytest))}

[cosmic-ray.distributor]
name = "local"
"""


def run(target: Target, keep: int, seed: int, folder: Path) -> Iterator[tuple[Mutant, bool]]:
    """Try a sample of a target's mutants; yield each mutant, and whether the tests caught it."""
    from cosmic_ray.work_db import WorkDB, use_db
    from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult

    (folder / "mutants.toml").write_text(configuration(target), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{folder / 'lab-stack'}", "LAB_NAME": "mutation"}
    cosmic_ray = Path(sys.executable).with_name("cosmic-ray")

    def call(*words: str) -> None:
        subprocess.run([str(cosmic_ray), *words], cwd=folder, env=environment, check=True)

    call("baseline", "mutants.toml")
    call("init", "mutants.toml", DATABASE)
    with use_db(str(folder / DATABASE), WorkDB.Mode.open) as database:
        items = sorted(database.pending_work_items, key=lambda item: str(item.mutations))
        useful = [
            item
            for item in items
            if not is_left_out(item.mutations[0].operator_name)
            and (not target.definitions or item.mutations[0].definition_name in target.definitions)
        ]
        chosen = random.Random(seed).sample(useful, min(keep, len(useful)))
        kept = {item.job_id for item in chosen}
        print(f"{len(useful)} mutants, of which {len(kept)} are tried", flush=True)
        for item in items:
            if item.job_id not in kept:
                database.set_result(item.job_id, WorkResult(worker_outcome=WorkerOutcome.SKIPPED))
    sources = {module: (folder / module).read_text(encoding="utf-8").splitlines() for module in target.modules}
    call("exec", "mutants.toml", DATABASE)
    with use_db(str(folder / DATABASE), WorkDB.Mode.open) as database:
        for item, result in database.completed_work_items:
            if item.job_id in kept:
                mutation = item.mutations[0]
                module = str(mutation.module_path)
                code = sources[module][mutation.start_pos[0] - 1].strip()
                mutant = Mutant(module, mutation.operator_name.removeprefix("core/"), code)
                yield mutant, result.test_outcome is not TestOutcome.SURVIVED


def main() -> int:
    """Try the mutants of each target, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"one of {', '.join(TARGETS)}; all by default")
    parser.add_argument("--keep", type=int, default=40, help="number of mutants to try for each target")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of the sample")
    options = parser.parse_args()
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"unknown target {', '.join(sorted(unknown))}; the targets are {', '.join(TARGETS)}")
    survivors: list[Mutant] = []
    for name in options.targets or TARGETS:
        print(f"{name}: ", end="")
        with tempfile.TemporaryDirectory(prefix="saga-lab-mutation-") as folder:
            copy_of_the_code(Path(folder))
            results = list(run(TARGETS[name], options.keep, options.seed, Path(folder)))
        alive = sorted({mutant for mutant, is_caught in results if not is_caught} - accepted().keys())
        print(f"{sum(is_caught for _, is_caught in results)} of {len(results)} mutants of {name} were caught")
        for mutant in alive:
            print(f"  SURVIVED  {mutant}", flush=True)
        survivors += alive
    if survivors:
        print(f"{len(survivors)} mutants survived (seed {options.seed}). Add a test, or list them in survivors.toml.")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
