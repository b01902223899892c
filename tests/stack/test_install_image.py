"""Installation of a program from an image in a local registry, and the images that are rejected."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labstack.backends.docker.lock import lock, lock_program
from labstack.config.digests import digests_file, known_digest
from labstack.config.paths import LabPaths
from labstack.errors import DownloadFailed, LabError, ProgramMissing
from labstack.install import install
from labstack.install.catalogue import Entry, InImage, entry
from labstack.install.errors import VerificationFailed
from labstack.install.sources.from_image import Limits, from_image, this_platform
from labstack.install.sources.image_name import ImageName
from labstack.install.store import PARTIAL, Program, Store
from labstack.ports.free import choose
from labstack.progress import Progress
from labstack.waiting import wait_until
from tests.stack.registry import LAYER, Member, Proxy, Registry, pack_layer, serve_registry
from tests.suite.chance import short_sample

HOST_ARCH = this_platform().split("/")[1]
OTHER_ARCH = "arm64" if HOST_ARCH == "amd64" else "amd64"
SCRIPT = b"#!/bin/sh\necho tool 1.2.3\n"
TOOL = Member("usr/local/bin/tool", SCRIPT, mode=0o755)
TREE = Member("opt/tool/bin/tool", SCRIPT, mode=0o755)
COMMAND = [sys.executable, "-m", "labstack.cli", "install"]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """An empty registry."""
    running = Registry(tmp_path_factory.mktemp("registry"), choose(5000, set()))
    with serve_registry(running.folder, running.port):
        yield running


@pytest.fixture
def paths(tmp_path: Path) -> LabPaths:
    """The folders of a separate lab."""
    return LabPaths(tmp_path / "state", tmp_path / "cache")


def program_entry(image: str, digest: str) -> Entry:
    return Entry("tool", "1.2.3", "tool", in_image=InImage(image, digest, "usr/local/bin/tool"))


def folder_entry(image: str, digest: str) -> Entry:
    return Entry("tool", "1.2.3", "bin/tool", in_image=InImage(image, digest, "opt/tool"))


def install_image(wanted: Entry, paths: LabPaths) -> Program:
    return install(wanted, paths, Progress(), sources=["image"])


def is_not_installed(wanted: Entry, paths: LabPaths) -> bool:
    store = Store(wanted, paths)
    return store.find() is None and not store.folder.exists() and not list(store.home.glob(f"{PARTIAL}*"))


def program_output(program: Program) -> str:
    return subprocess.run([program.path], capture_output=True, text=True, check=True).stdout.strip()


def test_program_is_installed_from_the_image_of_this_platform(registry: Registry, paths: LabPaths) -> None:
    """Only the program for this platform is installed, and its record has its SHA-256 and the image's digest."""
    lower = [Member("bin", kind=tarfile.SYMTYPE, link="usr/bin"), Member("usr/local/bin/other", b"x")]
    right = registry.upload_image(lower, [TOOL], architecture=HOST_ARCH)
    wrong = registry.upload_image([replace(TOOL, content=b"#!/bin/sh\necho for the other\n")], architecture=OTHER_ARCH)
    digest = registry.upload_index({OTHER_ARCH: wrong, HOST_ARCH: right})
    wanted = program_entry(f"{registry.repository()}:1", digest)
    program = install_image(wanted, paths)
    assert program_output(program) == "tool 1.2.3"
    assert (program.source, program.origin) == ("image", f"{registry.repository()}:1@{digest}")
    store = Store(wanted, paths)
    assert store.damaged() == []
    assert {path.name for path in store.home.rglob("*") if path.is_file()} == {"tool", "record.json", "lock"}
    assert store.find() == program


def test_installed_program_is_not_downloaded_again(registry: Registry, paths: LabPaths) -> None:
    """A second install sends no request to the registry, unless it has to repair a damaged file."""
    digest = registry.upload_index({HOST_ARCH: registry.upload_image([TOOL])})
    with Proxy(registry.port).running() as network:
        network.open.set()
        wanted = program_entry(f"{registry.repository(port=network.port)}:1", digest)
        program = install_image(wanted, paths)
        requests = len(network.requests)
        assert install_image(wanted, paths) == program
        assert len(network.requests) == requests
        before = program.path.stat()
        program.path.write_bytes(SCRIPT.replace(b"1.2.3", b"6.6.6"))
        os.utime(program.path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert install_image(wanted, paths).sha256 == program.sha256
        assert program_output(program) == "tool 1.2.3"
        assert len(network.requests) > requests


@pytest.mark.parametrize("damage", ["shorter", "changed", "not executable", "gone", "record"])
def test_damaged_program_counts_as_not_installed(damage: str, registry: Registry, paths: LabPaths) -> None:
    """A truncated, changed or missing file, or an unreadable record, counts as not installed until it is repaired."""
    wanted = program_entry(
        f"{registry.repository()}:1", registry.upload_index({HOST_ARCH: registry.upload_image([TOOL])})
    )
    program = install_image(wanted, paths)
    store = Store(wanted, paths)
    before = program.path.stat()
    if damage == "shorter":
        os.truncate(program.path, 5)
    elif damage == "changed":  # in place, to the same size
        content = program.path.read_bytes().replace(b"1.2.3", b"6.6.6")
        with program.path.open("r+b") as file:
            file.write(content)
        os.utime(program.path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        assert program.path.stat().st_size == before.st_size
    elif damage == "not executable":
        program.path.chmod(0o644)
    elif damage == "gone":
        program.path.unlink()
    else:
        (store.folder / "record.json").write_text("{")
    assert store.find() is None
    assert program_output(install_image(wanted, paths)) == "tool 1.2.3"
    assert store.find() is not None


def test_interrupted_download_resumes(registry: Registry, paths: LabPaths) -> None:
    """After each interruption, a download requests only the rest, and the result is complete."""
    padding = Member("usr/local/bin/padding", os.urandom(3_000_000))
    image = registry.upload_image([TOOL, padding], architecture=HOST_ARCH)
    layer = registry.upload_blob(pack_layer([TOOL, padding]), LAYER)["digest"]
    with Proxy(registry.port, cut_after=1_000_000, cuts=2).running() as network:
        network.open.set()
        wanted = program_entry(f"{registry.repository(port=network.port)}:1", registry.upload_index({HOST_ARCH: image}))
        assert program_output(install_image(wanted, paths)) == "tool 1.2.3"
        first, second, third = network.requests_for(layer)
    assert "range:" not in first.lower()
    starts = [int(head.lower().split("range: bytes=")[1].split("-")[0]) for head in (second, third)]
    assert 900_000 < starts[0] < 1_000_000 < starts[1] < 2_000_000


def test_failed_download_resumes_in_the_next_install(registry: Registry, paths: LabPaths) -> None:
    """A failed download keeps its part for the next install; a part that was changed meanwhile is downloaded again."""
    padding = Member("usr/local/bin/padding", os.urandom(3_000_000))
    digest = registry.upload_index({HOST_ARCH: registry.upload_image([TOOL, padding], architecture=HOST_ARCH)})
    layer = registry.upload_blob(pack_layer([TOOL, padding]), LAYER)["digest"]
    with Proxy(registry.port, cut_after=400_000, cuts=99).running() as network:
        network.open.set()
        wanted = program_entry(f"{registry.repository(port=network.port)}:1", digest)
        with pytest.raises(ProgramMissing, match="was cut"):
            install_image(wanted, paths)
        assert is_not_installed(wanted, paths)
        (part,) = Store(wanted, paths).downloads.glob("*.part")
        kept = part.stat().st_size
        assert 1_000_000 < kept < 3_000_000
        with part.open("r+b") as file:
            file.seek(1000)
            file.write(b"damage")
        network.cuts = 0
        assert program_output(install_image(wanted, paths)) == "tool 1.2.3"
        *_, resumed, restarted = network.requests_for(layer)
    assert f"bytes={kept}-" in resumed
    assert "range:" not in restarted.lower()
    assert not part.exists()


def test_only_the_pinned_digest_is_accepted(registry: Registry, paths: LabPaths) -> None:
    """Only the pinned digest is accepted, whatever the tag points to."""
    registry.upload_index({HOST_ARCH: registry.upload_image([TOOL])})
    wanted = program_entry(f"{registry.repository()}:1", "sha256:" + "0" * 64)
    with pytest.raises(ProgramMissing, match=r"404 Not Found for .*sha256:0000"):
        install_image(wanted, paths)
    assert is_not_installed(wanted, paths)


@pytest.mark.parametrize("what", ["index", "manifest", "layer", "longer layer"])
def test_tampered_index_manifest_or_layer_is_rejected(what: str, registry: Registry, paths: LabPaths) -> None:
    """A changed index, manifest or layer is rejected, and no other install source is tried."""
    own = replace(TOOL, content=SCRIPT + what.encode())
    image = registry.upload_image([own], architecture=HOST_ARCH)
    digest = registry.upload_index({HOST_ARCH: image}, tag=what.replace(" ", "-"))
    layer = registry.upload_blob(pack_layer([own]), LAYER)["digest"]
    stored = registry.stored_file({"index": digest, "manifest": image["digest"]}.get(what, layer))
    content = bytearray(stored.read_bytes())
    if what == "longer layer":
        content += b"more"
    elif what == "layer":
        content[len(content) // 2] ^= 1
    else:
        content[content.index(b'"size": ') + 8] ^= 1  # another digit
    stored.write_bytes(content)
    wanted = program_entry(f"{registry.repository()}:1", digest)
    with pytest.raises(
        VerificationFailed, match="longer than its manifest" if what == "longer layer" else r"\w"
    ) as refused:
        install(wanted, paths, Progress(), sources=["image", "go"])
    assert digest in str(refused.value) or image["digest"] in str(refused.value) or layer in str(refused.value)
    assert is_not_installed(wanted, paths)
    stored.unlink()


HOSTILE: dict[str, tuple[Member, str]] = {
    "a name that climbs out": (Member("opt/tool/../../../evil", b"x"), "leads out of the image"),
    "a name that climbs out elsewhere": (Member("../evil", b"x"), "leads out of the image"),
    "a link upwards": (Member("opt/tool/l", kind=tarfile.SYMTYPE, link="../evil"), "outside the unpacked tree"),
    "a link that climbs later": (
        Member("opt/tool/l", kind=tarfile.SYMTYPE, link="bin/../../e"),
        "outside the unpacked tree",
    ),
    "a link from the root": (
        Member("opt/tool/l", kind=tarfile.SYMTYPE, link="/etc/passwd"),
        "outside the unpacked tree",
    ),
    "a hard link out": (
        Member("opt/tool/l", kind=tarfile.LNKTYPE, link="etc/passwd"),
        "hard link to a file outside the unpacked tree",
    ),
    "a hard link that climbs out": (
        Member("opt/tool/l", kind=tarfile.LNKTYPE, link="opt/tool/../../etc/passwd"),
        "leads out of the image",
    ),
    "a hard link to nothing": (Member("opt/tool/l", kind=tarfile.LNKTYPE, link="opt/tool/no"), "a missing file"),
    "a device": (Member("opt/tool/null", kind=tarfile.CHRTYPE), "is a device"),
    "a disk": (Member("opt/tool/sda", kind=tarfile.BLKTYPE), "is a device"),
    "a pipe": (Member("opt/tool/pipe", kind=tarfile.FIFOTYPE), "is a pipe"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_layer_with_an_unsafe_entry_is_rejected(case: str, registry: Registry, paths: LabPaths) -> None:
    """An entry that leaves its folder, or is not a file, a folder or a safe link, is rejected, and no file remains."""
    member, why = HOSTILE[case]
    digest = registry.upload_index({HOST_ARCH: registry.upload_image([TREE, member], architecture=HOST_ARCH)})
    wanted = folder_entry(f"{registry.repository()}:1", digest)
    with pytest.raises(VerificationFailed, match=why):
        install_image(wanted, paths)
    assert is_not_installed(wanted, paths)
    assert not list(paths.cache.parent.rglob("evil"))


def test_layer_cannot_write_through_its_own_link(registry: Registry, paths: LabPaths) -> None:
    """A layer can't write through a link that it created itself."""
    link = Member("opt/tool/here", kind=tarfile.SYMTYPE, link="bin")
    digest = registry.upload_index(
        {HOST_ARCH: registry.upload_image([TREE, link, Member("opt/tool/here/x", b"x")], architecture=HOST_ARCH)}
    )
    with pytest.raises(VerificationFailed, match="has a parent that is not a folder"):
        install_image(folder_entry(f"{registry.repository()}:1", digest), paths)


def test_link_in_place_of_the_program_is_rejected(registry: Registry, paths: LabPaths) -> None:
    """An install does not follow a link in place of the program."""
    link = replace(TOOL, content=b"", kind=tarfile.SYMTYPE, link="/bin/sh")
    digest = registry.upload_index({HOST_ARCH: registry.upload_image([link], architecture=HOST_ARCH)})
    with pytest.raises(VerificationFailed, match="is a symbolic link, neither a file nor a folder"):
        install_image(program_entry(f"{registry.repository()}:1", digest), paths)


def test_leading_slash_is_relative_to_the_image_root(registry: Registry, paths: LabPaths, tmp_path: Path) -> None:
    """A path with a leading slash is relative to the image's root; the same path on this machine is not touched."""
    mine = tmp_path / "mine"
    mine.write_text("mine")
    members = [Member(str(mine), b"yours"), replace(TOOL, name=f"/{TOOL.name}")]
    digest = registry.upload_index({HOST_ARCH: registry.upload_image(members, architecture=HOST_ARCH)})
    assert program_output(install_image(program_entry(f"{registry.repository()}:1", digest), paths)) == "tool 1.2.3"
    assert mine.read_text() == "mine"


def test_setuid_and_setgid_bits_are_dropped(registry: Registry, paths: LabPaths) -> None:
    """Set-user-ID and set-group-ID bits are dropped, and only the owner may write."""
    digest = registry.upload_index(
        {HOST_ARCH: registry.upload_image([replace(TOOL, mode=0o6777)], architecture=HOST_ARCH)}
    )
    program = install_image(program_entry(f"{registry.repository()}:1", digest), paths)
    assert oct(program.path.stat().st_mode & 0o7777) == "0o755"


def test_upper_layers_hide_removed_entries(registry: Registry, paths: LabPaths) -> None:
    """A folder is the result of all layers: replaced, removed, emptied and linked entries included."""
    lowest = [
        *(Member(f"opt/tool/{name}", b"old") for name in ("bin/tool", "lib/gone", "lib/kept", "etc/one", "data/x")),
        *(Member("opt/other", b"x"), Member("opt/tool/to-folder", b"x"), Member("opt/tool/to-file/x", b"x")),
        Member("opt/tool/to-link/x", b"x"),
    ]
    middle = [
        *(TREE, Member("opt/tool/lib/.wh.gone"), Member("opt/tool/etc/.wh..wh..opq"), Member("opt/tool/etc/two", b"2")),
        *(Member("opt/tool/.wh.data"), Member("opt/tool/to-folder/y", b"y"), Member("opt/tool/to-file", b"y")),
        Member("opt/tool/to-folder", kind=tarfile.DIRTYPE, mode=0o755),
        Member("opt/tool/to-link", kind=tarfile.SYMTYPE, link="bin"),
    ]
    highest = [
        Member("opt/tool/lib", kind=tarfile.DIRTYPE, mode=0o755),
        Member("opt/tool/lib/link", kind=tarfile.SYMTYPE, link="../bin/tool"),
        Member("opt/tool/lib/same", b"same"),
        Member("opt/tool/lib/hard", kind=tarfile.LNKTYPE, link="opt/tool/lib/same"),
    ]
    digest = registry.upload_index({HOST_ARCH: registry.upload_image(lowest, middle, highest, architecture=HOST_ARCH)})
    program = install_image(folder_entry(f"{registry.repository()}:1", digest), paths)
    assert program_output(program) == "tool 1.2.3"
    top = program.path.parents[1]
    there = {str(path.relative_to(top)) for path in top.rglob("*") if not path.is_dir()}
    kept = {"bin/tool", "lib/kept", "lib/link", "lib/same", "lib/hard", "etc/two"}
    assert there == {*kept, "to-folder/y", "to-file"}
    assert (top / "lib/link").resolve() == program.path
    assert (top / "to-link").readlink() == Path("bin")
    assert (top / "lib/hard").read_text() == "same"


@pytest.mark.parametrize(
    "upper",
    [
        Member("usr/local/bin/.wh.tool"),
        Member("usr/local/bin/.wh..wh..opq"),
        Member("usr/local/bin", kind=tarfile.SYMTYPE, link="sbin"),
        Member("usr/local/bin", b"a file"),
        Member("usr", kind=tarfile.SYMTYPE, link="opt"),
        Member("usr", b"a file"),
    ],
    ids=lambda upper: f"{upper.name} as {'a link' if upper.link else 'a file'}",
)
def test_program_removed_by_an_upper_layer_is_missing(upper: Member, registry: Registry, paths: LabPaths) -> None:
    """A program is missing if an upper layer removes it, empties its folder, or replaces a parent by a link or file."""
    digest = registry.upload_index({HOST_ARCH: registry.upload_image([TOOL], [upper], architecture=HOST_ARCH)})
    with pytest.raises(ProgramMissing, match=r"has no usr/local/bin/tool"):
        install_image(program_entry(f"{registry.repository()}:1", digest), paths)


def test_too_large_layer_is_rejected(registry: Registry, paths: LabPaths) -> None:
    """A layer over the limit is not downloaded, and one that unpacks to more is rejected at the limit."""
    bomb = Member("usr/local/bin/zeros", bytes(50_000_000))
    digest = registry.upload_index({HOST_ARCH: registry.upload_image([TOOL, bomb], architecture=HOST_ARCH)})
    wanted = program_entry(f"{registry.repository()}:1", digest)
    store = Store(wanted, paths)
    with pytest.raises(VerificationFailed, match="MB is refused"):
        from_image(store, lambda text: None, Limits(layer=1000))
    assert not store.downloads.exists()
    with pytest.raises(VerificationFailed, match="larger than 10 MB once it is unpacked"):
        from_image(store, lambda text: None, Limits(unpacked=10_000_000))
    assert is_not_installed(wanted, paths)
    assert from_image(store, lambda text: None).sha256


def test_oversized_header_is_rejected(registry: Registry, paths: LabPaths) -> None:
    """An extended header of many megabytes is not read."""
    layer = pack_layer([Member("long", bytes(5_000_000), kind=tarfile.XHDTYPE), TOOL])
    config = registry.upload_blob(
        b'{"os": "linux", "architecture": "amd64"}', "application/vnd.oci.image.config.v1+json"
    )
    image = registry.upload_manifest(
        {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": [registry.upload_blob(layer, LAYER)],
        }
    )
    with pytest.raises(VerificationFailed, match="header of 5000000 bytes"):
        install_image(program_entry(f"{registry.repository()}:1", registry.upload_index({HOST_ARCH: image})), paths)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("application/vnd.oci.image.layer.v1.tar+zstd", "compressed with zstd"),
        ("application/vnd.example.thing", "unsupported media type"),
    ],
)
def test_unsupported_layer_format_is_rejected(kind: str, why: str, registry: Registry, paths: LabPaths) -> None:
    """The error names a layer format that the installer can't read."""
    digest = registry.upload_index({HOST_ARCH: registry.upload_image([TOOL], architecture=HOST_ARCH, kind=kind)})
    with pytest.raises(VerificationFailed, match=why):
        install_image(program_entry(f"{registry.repository()}:1", digest), paths)


def test_layer_that_is_not_an_archive_is_rejected(registry: Registry, paths: LabPaths) -> None:
    """A layer with the right SHA-256 that is not a gzip or tar archive is rejected with an error."""
    for number, content in enumerate((b"no gzip", pack_layer([TOOL])[:-20])):
        config = registry.upload_blob(
            b'{"os": "linux", "architecture": "amd64"}', "application/vnd.oci.image.config.v1+json"
        )
        image = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config}
        broken = registry.upload_manifest({**image, "layers": [registry.upload_blob(content, LAYER)]})
        wanted = program_entry(
            f"{registry.repository()}:1", registry.upload_index({HOST_ARCH: broken}, tag=f"broken{number}")
        )
        with pytest.raises(VerificationFailed, match="can't be unpacked"):
            install_image(wanted, paths)
        assert is_not_installed(wanted, paths)


def test_image_without_this_platform_names_its_platforms(registry: Registry, paths: LabPaths) -> None:
    """The error names the platforms of the image, whether it is an index or an image for one platform."""
    image = registry.upload_image([TOOL], architecture="s390x")
    for digest in (registry.upload_index({"s390x": image}, tag="s390x"), image["digest"]):
        with pytest.raises(ProgramMissing, match=rf"is available for linux/s390x, not for linux/{HOST_ARCH}"):
            install_image(program_entry(f"{registry.repository()}:1", digest), paths)


def test_web_page_is_not_taken_for_an_image(registry: Registry, paths: LabPaths, tmp_path: Path) -> None:
    """A web page in place of the registry, such as a network's login page, is not taken for an image."""
    page = tmp_path / "pages/v2/lab-standin/tool/manifests"
    page.mkdir(parents=True)
    (page / "1.html").write_text("<html>Please log in</html>")
    port = choose(5000, {registry.port})
    server = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with subprocess.Popen(server, cwd=tmp_path / "pages", stderr=subprocess.DEVNULL) as process:
        try:
            probe = [sys.executable, "-c", f"import socket; socket.create_connection(('127.0.0.1', {port}))"]
            assert wait_until(lambda: subprocess.run(probe, stderr=subprocess.DEVNULL).returncode == 0, 20)
            versions = {"images": {"tool": {"image": f"{registry.repository(port=port)}:1.html"}}}
            with pytest.raises(DownloadFailed, match=r"returned 'text/html' for .*, not an image manifest"):
                lock(versions)
        finally:
            process.terminate()


def test_unavailable_registry_is_reported_at_once(paths: LabPaths) -> None:
    """An unavailable registry is reported at once, with the cause and the next step, and nothing is installed."""
    wanted = program_entry(f"127.0.0.1:{choose(5000, set())}/lab-standin/tool:1", "sha256:" + "0" * 64)
    with pytest.raises(ProgramMissing, match=r"can't be queried: .*refused") as failed:
        install_image(wanted, paths)
    assert "check the network" in failed.value.next_step
    assert is_not_installed(wanted, paths)


def subprocess_options(registry_at: str, digest: str, tmp_path: Path) -> dict[str, Any]:
    """Return subprocess options with which `lab install istiod` uses a stand-in for its image."""
    return {
        "env": {
            **os.environ,
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "LAB_INSTALL_IMAGE_ISTIOD": f"{registry_at}:1@{digest}",
        },
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }


def upload_istiod(registry: Registry, size: int) -> str:
    """Upload a stand-in for istiod's image, its program followed by `size` zero bytes, and return its digest."""
    program = Member("usr/local/bin/pilot-discovery", SCRIPT + bytes(size), mode=0o755)
    return registry.upload_index({HOST_ARCH: registry.upload_image([program], architecture=HOST_ARCH)}, tag="istiod")


@pytest.mark.parametrize("how", short_sample([signal.SIGKILL, signal.SIGINT], 1))
def test_interrupted_install_leaves_nothing_partial(how: signal.Signals, registry: Registry, tmp_path: Path) -> None:
    """After a kill or Ctrl-C during the unpacking, nothing counts as installed, and the next install succeeds."""
    options = subprocess_options(registry.repository(), upload_istiod(registry, 400_000_000), tmp_path)
    home = tmp_path / "cache/saga-lab/programs/istiod"
    with subprocess.Popen([*COMMAND, "istiod", "--from", "image"], **options) as process:
        assert wait_until(
            lambda: process.poll() is not None or any(f.stat().st_size for f in home.glob(f"{PARTIAL}*/files/*")), 60
        )
        assert process.poll() is None, process.communicate()
        process.send_signal(how)
        process.communicate(timeout=30)
        assert process.returncode == (130 if how == signal.SIGINT else -9)
    assert not list(home.glob("*/record.json"))
    if how == signal.SIGINT:
        assert not list(home.glob(f"{PARTIAL}*"))
    again = subprocess.run([*COMMAND, "istiod", "--from", "image", "--json"], **options, timeout=120)
    assert again.returncode == 0, again.stderr
    assert not list(home.glob(f"{PARTIAL}*"))
    assert len(list(home.glob("*/record.json"))) == 1


def test_concurrent_installs_download_once(registry: Registry, tmp_path: Path) -> None:
    """A second install reports that it waits for the first and reuses its program; the layer is downloaded once."""
    with Proxy(registry.port).running() as network:
        options = subprocess_options(registry.repository(port=network.port), upload_istiod(registry, 1000), tmp_path)
        argv = [*COMMAND, "istiod", "--from", "image", "--json"]
        with subprocess.Popen(argv, **options) as first:
            assert wait_until(lambda: network.requests or first.poll() is not None, 60)
            with subprocess.Popen(argv, **options) as second:
                assert second.stderr is not None
                assert "another lab is installing istiod; waiting for it" in second.stderr.readline()
                network.open.set()
                one, _ = first.communicate(timeout=60)
                two, _ = second.communicate(timeout=60)
    assert one
    assert one == two
    assert sum("/blobs/" in head for head in network.requests) == 1


def test_first_use_of_a_tag_records_its_digest(
    registry: Registry, paths: LabPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first use of a tag records its digest for this user, and later installs keep to it when the tag moves."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    image = f"{registry.repository()}:moving"
    first = registry.upload_index({HOST_ARCH: registry.upload_image([TOOL])}, tag="moving")
    notes: list[str] = []
    progress = Progress(lambda seen: notes.extend(stage.note for stage in seen.stages))
    install(program_entry(image, ""), paths, progress, sources=["image"])
    assert known_digest(image) == first
    assert any(first in note and str(digests_file()) in note for note in notes)
    registry.upload_index(
        {HOST_ARCH: registry.upload_image([replace(TOOL, content=b"#!/bin/sh\necho newer\n")])}, tag="moving"
    )
    how = {"version": "1.2.3", "program": "tool", "image": image, "path": "usr/local/bin/tool"}
    versions = {"programs": {"tool": how}}
    assert install_image(replace(entry("tool", versions), version="again"), paths).origin.endswith(first)
    newer = lock_program("tool", versions)
    assert newer.in_image is not None
    assert newer.in_image.digest not in (first, "")
    assert program_output(install_image(newer, paths)) == "newer"


def test_lock_reads_digests_without_docker(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`lab images lock` records the registry's digest once per image, and rejects an image for other platforms only."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    both = {kind: registry.upload_image([TOOL], architecture=kind) for kind in ("amd64", "arm64")}
    digest = registry.upload_index(both, tag="both")
    image = f"{registry.repository()}:both"
    versions = {"images": {"tool": {"image": image}}, "programs": {"tool": {"image": image}}}
    (locked,) = lock(versions)
    assert (locked.digest, locked.platforms) == (digest, ("linux/amd64", "linux/arm64"))
    assert known_digest(image) == digest
    registry.upload_index({"s390x": both["amd64"]}, tag="both")
    with pytest.raises(LabError, match=r"both is available for linux/s390x, not for linux/"):
        lock(versions)
    assert known_digest(image) == digest


def test_new_digest_replaces_the_installed_program(registry: Registry, paths: LabPaths) -> None:
    """An install replaces a program from an image that is no longer the pinned one."""
    image = f"{registry.repository()}:1"
    install_image(program_entry(image, registry.upload_index({HOST_ARCH: registry.upload_image([TOOL])})), paths)
    newer = replace(TOOL, content=b"#!/bin/sh\necho newer\n")
    assert (
        program_output(
            install_image(
                program_entry(image, registry.upload_index({HOST_ARCH: registry.upload_image([newer])})), paths
            )
        )
        == "newer"
    )


@pytest.mark.parametrize(
    ("name", "url", "tag"),
    [
        ("postgres:18", "https://registry-1.docker.io/v2/library/postgres", "18"),
        ("prom/prometheus", "https://registry-1.docker.io/v2/prom/prometheus", "latest"),
        ("docker.io/prom/prometheus:v3.5.0", "https://registry-1.docker.io/v2/prom/prometheus", "v3.5.0"),
        (f"quay.io/debezium/connect:3.7@sha256:{64 * 'a'}", "https://quay.io/v2/debezium/connect", "3.7"),
        ("registry:5000/a/b/c_d:1", "https://registry:5000/v2/a/b/c_d", "1"),
        ("localhost/tool:1", "http://localhost/v2/tool", "1"),
        ("127.0.0.1:5000/lab/tool:1", "http://127.0.0.1:5000/v2/lab/tool", "1"),
        ("[::1]:5000/tool", "http://[::1]:5000/v2/tool", "latest"),
    ],
)
def test_image_name_is_parsed(name: str, url: str, tag: str) -> None:
    """A name leads to its repository at its registry; Docker Hub is the default, and a local registry has no TLS."""
    parsed = ImageName.of(name)
    assert (parsed.url, parsed.tag) == (url, tag)


def test_an_unusable_proxy_is_reported(paths: LabPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of an unknown kind, as in some desktop settings, is an error that names it."""
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:1080")
    with pytest.raises(ProgramMissing, match="the proxy of this machine can't be used"):
        install_image(program_entry("registry.invalid/tool:1", f"sha256:{64 * 'a'}"), paths)


@pytest.mark.parametrize("name", ["", "Tool", "tool:", "tool@sha256:12", "a//b", "tool:1 ", "../tool", "-tool"])
def test_invalid_image_name_is_rejected(name: str) -> None:
    """An invalid name is refused, with the syntax."""
    with pytest.raises(DownloadFailed, match="is not a valid image name") as failed:
        ImageName.of(name)
    assert "[REGISTRY/]REPOSITORY" in failed.value.next_step
