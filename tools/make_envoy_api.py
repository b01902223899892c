"""Write the descriptors of Envoy's API, from the pinned wheel of its protos:

    python tools/make_envoy_api.py [--check]

The wheel (xds-protos, in `lab-stack/versions.toml`) has every message of the API, and files that other packages own as
well. So it is not a dependency: this script fetches it into a temporary folder and keeps the descriptors of the
messages that the lab uses, with all that those refer to. With `--check` it writes nothing, and fails if they differ.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "lab-stack" / "labstack" / "istio" / "envoy_api" / "descriptors.binpb"
PACKAGE = re.compile(r'^\w+: Any = _Package\("(envoy[\w.]+)"\)', re.M)

COLLECT = """
import importlib, pathlib, re, sys
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

files, collected = {}, FileDescriptorSet()

def take(file):
    if file.name in files:
        return
    files[file.name] = file
    for needed in file.dependencies:
        take(needed)
    file.CopyToProto(collected.file.add())

for name in sys.argv[1:]:
    take(importlib.import_module(name).DESCRIPTOR)
sys.stdout.buffer.write(collected.SerializeToString(deterministic=True))
"""


def modules(folder: Path) -> list[str]:
    """Return the modules of the packages that `labstack.istio.envoy_api` names."""
    packages = PACKAGE.findall((OUTPUT.parent / "__init__.py").read_text(encoding="utf-8"))
    return sorted(
        str(path.relative_to(folder).with_suffix("")).replace("/", ".")
        for package in packages
        for path in (folder / package.replace(".", "/")).glob("*_pb2.py")
    )


def descriptors() -> bytes:
    """Return the descriptors, each file after its dependencies."""
    wheel = tomllib.loads((ROOT / "lab-stack" / "versions.toml").read_text(encoding="utf-8"))["protos"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wanted = folder / "requirements.txt"
        wanted.write_text(f"{wheel['package']}=={wheel['version']} --hash=sha256:{wheel['sha256']}\n", encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        subprocess.run([*pip, "--dest", folder, "-r", wanted], check=True)
        zipfile.ZipFile(next(folder.glob("*.whl"))).extractall(folder / "protos")
        found = modules(folder / "protos")
        # In a separate process, with the wheel's files before all others.
        script = f"import sys; sys.path.insert(0, {str(folder / 'protos')!r})\n{COLLECT}"
        return subprocess.run([sys.executable, "-c", script, *found], check=True, stdout=subprocess.PIPE).stdout


def main() -> int:
    """Run the command line, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if they differ")
    check = parser.parse_args().check
    made = descriptors()
    if check:
        return int(made != OUTPUT.read_bytes())
    OUTPUT.write_bytes(made)
    print(f"{len(made) / 1000:.0f} kB in {OUTPUT.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
