"""The programs of a test cluster: Kubernetes and the operators, built from Go modules, and Debian's containerd.

    python -m tests.cluster.programs     # build what is missing; prints the folder

No registry has these programs, so Go builds them from their modules: 45 minutes of one core in an empty cache. A build
that was interrupted continues. The modules also contain the operators' manifests and charts, which are kept with the
programs.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from labstack.config.versions import VERSIONS
from labstack.state import remove_tree
from tests.containers.engine import CACHE, IPTABLES_NEEDS, PACKAGES, unpacked
from tools import get_helm
from tools.make_kubernetes_schemas import strimzi_definitions

HERE = Path(__file__).parent / "go"
KUBERNETES = "1.34.4"
COREDNS = "1.13.1"
KUBE_PROGRAMS = (
    *("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"),
)
NFTABLES_NEEDS = ("libnftables1", "libjansson4", "libedit2", "libbsd0", "libmd0", "libgmp10")
DEBIAN = (PACKAGES, IPTABLES_NEEDS, ("containernetworking-plugins", "nftables"), NFTABLES_NEEDS)
OPERATORS = VERSIONS["kubernetes"]["operators"]
NOT_IN_CHECKSUM_DATABASE = VERSIONS["programs"]["istiod"]["go"]["environment"]["GONOSUMDB"]


class Unavailable(Exception):
    """The programs can't be had on this machine; the message states the reason."""


@dataclass(frozen=True)
class Build:
    """A program to build.

    Attributes
    ----------
    name : str
        File name of the program.
    module : str
        The module to build in: a folder below `go`, or a published module with its version.
    package : str
        The package to build, relative to the module or by its full name.
    symbols : tuple of (str, str)
        Go variables and their values, such as the version that the program reports.
    tags : str
        Build tags.
    """

    name: str
    module: str
    package: str = "."
    symbols: tuple[tuple[str, str], ...] = ()
    tags: str = ""


def _version(package: str, **values: str) -> tuple[tuple[str, str], ...]:
    return tuple((f"{package}.{name}", value) for name, value in values.items())


_CNPG, _PROMETHEUS = OPERATORS["cloudnative-pg"]["version"], OPERATORS["prometheus-operator"]["version"]
_PROMETHEUS_COMMANDS = "github.com/prometheus-operator/prometheus-operator/cmd"
_PROMETHEUS_VERSION = _version("github.com/prometheus/common/version", Version=_PROMETHEUS)
_RECIPE = VERSIONS["programs"]["prometheus"]["go"]
BUILDS = (
    Build(
        "kube",
        "kube",
        symbols=_version(
            "k8s.io/component-base/version",
            gitVersion=f"v{KUBERNETES}",
            gitMajor="1",
            gitMinor=KUBERNETES.split(".")[1],
            gitTreeState="clean",
            gitCommit="module",
            buildDate="2026-01-01T00:00:00Z",
        ),
    ),
    Build("coredns", "coredns"),
    Build(
        "cnpg-manager",
        OPERATORS["cloudnative-pg"]["definitions"],
        "./cmd/manager",
        _version("github.com/cloudnative-pg/cloudnative-pg/pkg/versions", buildVersion=_CNPG),
    ),
    *(
        Build(
            name,
            OPERATORS["istio"]["definitions"],
            f"./pilot/cmd/{name}",
            _version("istio.io/istio/pkg/version", buildVersion=OPERATORS["istio"]["version"]),
            tags="vtprotobuf,disable_pgv",
        )
        for name in ("pilot-discovery", "pilot-agent")
    ),
    # Debian's Prometheus can't discover targets on Kubernetes.
    Build(
        "prometheus",
        f"{_RECIPE['module']}@{_RECIPE['version']}",
        f"./{_RECIPE['package']}",
        _version("github.com/prometheus/common/version", Version=VERSIONS["programs"]["prometheus"]["version"]),
    ),
    Build("prometheus-operator", "prometheus-operator", f"{_PROMETHEUS_COMMANDS}/operator", _PROMETHEUS_VERSION),
    Build(
        "prometheus-config-reloader",
        "prometheus-operator",
        f"{_PROMETHEUS_COMMANDS}/prometheus-config-reloader",
        _PROMETHEUS_VERSION,
    ),
)


def folder() -> Path:
    """Return the folder of the programs for the current versions; it may be missing."""
    digest = hashlib.sha256(repr((BUILDS, DEBIAN, OPERATORS, get_helm.SHA256)).encode())
    for file in sorted(path for path in HERE.rglob("*") if path.is_file()):
        digest.update(file.read_bytes())
    return CACHE / f"cluster-{digest.hexdigest()[:8]}"


def are_built() -> bool:
    """Return whether the cache has all programs."""
    return folder().is_dir()


def get(report: Callable[[str], None] = print) -> Path:
    """Return the folder of the programs; build them first if necessary.

    The folder contains ``bin`` (programs), ``debian`` (unpacked packages), ``charts`` (Istio's) and ``definitions``
    (manifests and custom resource definitions, one folder for each operator).

    Raises
    ------
    Unavailable
        There is no Go, Maven or apt, or a build failed.
    """
    target = folder()
    CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(CACHE / "cluster.lock"):
        if target.is_dir():
            return target
        if missing := [name for name in ("go", "mvn", "apt-get", "dpkg-deb") if not shutil.which(name)]:
            raise Unavailable(f"there is no {' and no '.join(missing)} to build a cluster's programs with")
        growing = CACHE / "cluster.partial"
        modules = CACHE / "cluster.modules"
        (growing / "bin").mkdir(parents=True, exist_ok=True)
        for build in BUILDS:
            if not (growing / "bin" / build.name).exists():
                report(f"building {build.name}")
                _build(build, growing / "bin", modules)
        for name in KUBE_PROGRAMS:
            if not (growing / "bin" / name).is_symlink():
                (growing / "bin" / name).symlink_to("kube")
        shutil.copy(get_helm.folder() / "helm", growing / "bin" / "helm")
        _copy_manifests(growing, modules)
        _link(growing / "debian", unpacked(CACHE, "node", DEBIAN))
        for older in CACHE.glob("cluster-????????"):
            remove_tree(older)
        growing.rename(target)
        subprocess.run(["go", "clean", "-modcache"], env=_environment(modules), check=False)
        remove_tree(modules)
    return target


def _link(link: Path, to: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(to)


def _environment(modules: Path) -> dict[str, str]:
    return {
        **os.environ,
        "GOPATH": str(modules / "path"),
        "GOCACHE": str(modules / "cache"),
        "GOFLAGS": "",
        "CGO_ENABLED": "0",
        "GONOSUMDB": NOT_IN_CHECKSUM_DATABASE,
    }


def _build(build: Build, target: Path, modules: Path) -> None:
    """Build one program into a folder."""
    where = _module(build.module, modules) if "@" in build.module else HERE / build.module
    symbols = "".join(f" -X {name}={value}" for name, value in build.symbols)
    options = ["-p", str(os.cpu_count() or 1), "-trimpath", "-ldflags", f"-s -w{symbols}"]
    if build.tags:
        options.append(f"-tags={build.tags}")
    growing = target / f"{build.name}.growing"
    command = ["nice", "go", "build", *options, "-o", str(growing), build.package]
    done = subprocess.run(command, cwd=where, env=_environment(modules), capture_output=True, text=True)
    if done.returncode:
        raise Unavailable(f"Go could not build {build.name}: {done.stderr.strip()[-500:]}")
    growing.rename(target / build.name)


def _copy_manifests(target: Path, modules: Path) -> None:
    """Copy the operators' manifests and charts from their modules."""
    definitions = target / "definitions"
    shutil.rmtree(definitions, ignore_errors=True)
    for operator, paths in {
        "cloudnative-pg": [f"releases/cnpg-{_CNPG}.yaml"],
        "prometheus-operator": ["bundle.yaml"],
    }.items():
        source = _module(OPERATORS[operator]["definitions"], modules)
        (definitions / operator).mkdir(parents=True)
        for path in paths:
            shutil.copyfile(source / path, definitions / operator / Path(path).name)
    istio = _module(OPERATORS["istio"]["definitions"], modules)
    for chart in ("base", "istio-control/istio-discovery"):
        destination = target / "charts" / Path(chart).name
        shutil.rmtree(destination, ignore_errors=True)
        shutil.copytree(istio / "manifests" / "charts" / chart, destination, copy_function=shutil.copyfile)
    shutil.copyfile(istio / "tools/packaging/common/envoy_bootstrap.json", target / "charts" / "envoy_bootstrap.json")
    with tempfile.TemporaryDirectory() as scratch:
        made = strimzi_definitions(OPERATORS["strimzi"]["version"], Path(scratch))
        shutil.copytree(made, definitions / "strimzi")


def _module(name: str, modules: Path) -> Path:
    """Return the folder of a Go module."""
    with tempfile.TemporaryDirectory() as nowhere:
        done = subprocess.run(
            ["go", "mod", "download", "-json", name],
            cwd=nowhere,
            env=_environment(modules),
            capture_output=True,
            text=True,
            check=True,
        )
    return Path(json.loads(done.stdout)["Dir"])


if __name__ == "__main__":
    try:
        print(get(lambda step: print(step, file=sys.stderr)))
    except Unavailable as reason:
        sys.exit(str(reason))
