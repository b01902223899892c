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
from labstack.install.sources.from_image import Limits, from_image, this_platform
from labstack.install.sources.image_name import ImageName
from labstack.install.store import GROWING, Program, Store
from labstack.install.trouble import Refused
from labstack.ports.free import choose
from labstack.progress import Progress
from labstack.waiting import wait_until
from tests.stack.registry import LAYER, Member, Proxy, Registry, packed, serving
from tests.suite.chance import short_sample

HERE = this_platform().split("/")[1]
OTHER = "arm64" if HERE == "amd64" else "amd64"
SCRIPT = b"#!/bin/sh\necho tool 1.2.3\n"
TOOL = Member("usr/local/bin/tool", SCRIPT, mode=0o755)
TREE = Member("opt/tool/bin/tool", SCRIPT, mode=0o755)
COMMAND = [sys.executable, "-m", "labstack.cli", "install"]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """An empty registry."""
    running = Registry(tmp_path_factory.mktemp("registry"), choose(5000, set()))
    with serving(running.folder, running.port):
        yield running


@pytest.fixture
def paths(tmp_path: Path) -> LabPaths:
    """The folders of a separate lab."""
    return LabPaths(tmp_path / "state", tmp_path / "cache")


def tool(image: str, digest: str) -> Entry:
    return Entry("tool", "1.2.3", "tool", in_image=InImage(image, digest, "usr/local/bin/tool"))


def tree(image: str, digest: str) -> Entry:
    return Entry("tool", "1.2.3", "bin/tool", in_image=InImage(image, digest, "opt/tool"))


def get(wanted: Entry, paths: LabPaths) -> Program:
    return install(wanted, paths, Progress(), ways=["image"])


def nothing_is_there(wanted: Entry, paths: LabPaths) -> bool:
    store = Store(wanted, paths)
    return store.find() is None and not store.folder.exists() and not list(store.home.glob(f"{GROWING}*"))


def says(program: Program) -> str:
    return subprocess.run([program.path], capture_output=True, text=True, check=True).stdout.strip()


def test_a_program_comes_out_of_the_image_of_this_platform(registry: Registry, paths: LabPaths) -> None:
    """Only the program for this platform is installed, and its record has its SHA-256 and the image's digest."""
    lower = [Member("bin", kind=tarfile.SYMTYPE, link="usr/bin"), Member("usr/local/bin/other", b"x")]
    right = registry.image(lower, [TOOL], architecture=HERE)
    wrong = registry.image([replace(TOOL, content=b"#!/bin/sh\necho for the other\n")], architecture=OTHER)
    digest = registry.index({OTHER: wrong, HERE: right})
    wanted = tool(f"{registry.repository()}:1", digest)
    program = get(wanted, paths)
    assert says(program) == "tool 1.2.3"
    assert (program.source, program.origin) == ("image", f"{registry.repository()}:1@{digest}")
    store = Store(wanted, paths)
    assert store.damaged() == []
    assert {path.name for path in store.home.rglob("*") if path.is_file()} == {"tool", "record.json", "lock"}
    assert store.find() == program


def test_a_program_that_is_there_is_not_fetched_again(registry: Registry, paths: LabPaths) -> None:
    """A second install sends no request to the registry, unless it has to repair a damaged file."""
    digest = registry.index({HERE: registry.image([TOOL])})
    with Proxy(registry.port).running() as network:
        network.open.set()
        wanted = tool(f"{registry.repository(port=network.port)}:1", digest)
        program = get(wanted, paths)
        asked = len(network.requests)
        assert get(wanted, paths) == program
        assert len(network.requests) == asked
        before = program.path.stat()
        program.path.write_bytes(SCRIPT.replace(b"1.2.3", b"6.6.6"))
        os.utime(program.path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert get(wanted, paths).sha256 == program.sha256
        assert says(program) == "tool 1.2.3"
        assert len(network.requests) > asked


@pytest.mark.parametrize("damage", ["shorter", "gone", "record"])
def test_a_damaged_program_is_not_used(damage: str, registry: Registry, paths: LabPaths) -> None:
    """A truncated or missing file, or an unreadable record, counts as not installed until an install repairs it."""
    wanted = tool(f"{registry.repository()}:1", registry.index({HERE: registry.image([TOOL])}))
    program = get(wanted, paths)
    store = Store(wanted, paths)
    if damage == "shorter":
        os.truncate(program.path, 5)
    elif damage == "gone":
        program.path.unlink()
    else:
        (store.folder / "record.json").write_text("{")
    assert store.find() is None
    assert says(get(wanted, paths)) == "tool 1.2.3"
    assert store.find() is not None


def test_a_download_goes_on_where_it_was_cut(registry: Registry, paths: LabPaths) -> None:
    """After each interruption, a download requests only the rest, and the result is complete."""
    padding = Member("usr/local/bin/padding", os.urandom(3_000_000))
    image = registry.image([TOOL, padding], architecture=HERE)
    layer = registry.blob(packed([TOOL, padding]), LAYER)["digest"]
    with Proxy(registry.port, cut_after=1_000_000, cuts=2).running() as network:
        network.open.set()
        wanted = tool(f"{registry.repository(port=network.port)}:1", registry.index({HERE: image}))
        assert says(get(wanted, paths)) == "tool 1.2.3"
        first, second, third = network.asked_for(layer)
    assert "range:" not in first.lower()
    starts = [int(head.lower().split("range: bytes=")[1].split("-")[0]) for head in (second, third)]
    assert 900_000 < starts[0] < 1_000_000 < starts[1] < 2_000_000


def test_a_download_that_was_given_up_goes_on_later(registry: Registry, paths: LabPaths) -> None:
    """A failed download keeps its part for the next install; a part that was changed meanwhile is downloaded again."""
    padding = Member("usr/local/bin/padding", os.urandom(3_000_000))
    digest = registry.index({HERE: registry.image([TOOL, padding], architecture=HERE)})
    layer = registry.blob(packed([TOOL, padding]), LAYER)["digest"]
    with Proxy(registry.port, cut_after=400_000, cuts=99).running() as network:
        network.open.set()
        wanted = tool(f"{registry.repository(port=network.port)}:1", digest)
        with pytest.raises(ProgramMissing, match="was cut"):
            get(wanted, paths)
        assert nothing_is_there(wanted, paths)
        (part,) = Store(wanted, paths).downloads.glob("*.part")
        kept = part.stat().st_size
        assert 1_000_000 < kept < 3_000_000
        with part.open("r+b") as file:
            file.seek(1000)
            file.write(b"damage")
        network.cuts = 0
        assert says(get(wanted, paths)) == "tool 1.2.3"
        *_, went_on, afresh = network.asked_for(layer)
    assert f"bytes={kept}-" in went_on
    assert "range:" not in afresh.lower()
    assert not part.exists()


def test_a_digest_that_the_registry_does_not_have(registry: Registry, paths: LabPaths) -> None:
    """Only the pinned digest is accepted, whatever the tag points to."""
    registry.index({HERE: registry.image([TOOL])})
    wanted = tool(f"{registry.repository()}:1", "sha256:" + "0" * 64)
    with pytest.raises(ProgramMissing, match=r"404 Not Found for .*sha256:0000"):
        get(wanted, paths)
    assert nothing_is_there(wanted, paths)


@pytest.mark.parametrize("what", ["index", "manifest", "layer", "longer layer"])
def test_what_was_tampered_with_is_refused(what: str, registry: Registry, paths: LabPaths) -> None:
    """A changed index, manifest or layer is rejected, and no other install source is tried."""
    own = replace(TOOL, content=SCRIPT + what.encode())
    image = registry.image([own], architecture=HERE)
    digest = registry.index({HERE: image}, tag=what.replace(" ", "-"))
    layer = registry.blob(packed([own]), LAYER)["digest"]
    stored = registry.stored({"index": digest, "manifest": image["digest"]}.get(what, layer))
    content = bytearray(stored.read_bytes())
    if what == "longer layer":
        content += b"more"
    elif what == "layer":
        content[len(content) // 2] ^= 1
    else:
        content[content.index(b'"size": ') + 8] ^= 1  # another digit
    stored.write_bytes(content)
    wanted = tool(f"{registry.repository()}:1", digest)
    with pytest.raises(Refused, match="longer than its manifest" if what == "longer layer" else r"\w") as refused:
        install(wanted, paths, Progress(), ways=["image", "go"])
    assert digest in str(refused.value) or image["digest"] in str(refused.value) or layer in str(refused.value)
    assert nothing_is_there(wanted, paths)
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
def test_a_layer_with_something_harmful_is_refused(case: str, registry: Registry, paths: LabPaths) -> None:
    """An entry that leaves its folder, or is not a file, a folder or a safe link, is rejected, and no file remains."""
    member, why = HOSTILE[case]
    digest = registry.index({HERE: registry.image([TREE, member], architecture=HERE)})
    wanted = tree(f"{registry.repository()}:1", digest)
    with pytest.raises(Refused, match=why):
        get(wanted, paths)
    assert nothing_is_there(wanted, paths)
    assert not list(paths.cache.parent.rglob("evil"))


def test_a_file_behind_a_link_is_refused(registry: Registry, paths: LabPaths) -> None:
    """A layer can't write through a link that it created itself."""
    link = Member("opt/tool/here", kind=tarfile.SYMTYPE, link="bin")
    digest = registry.index({HERE: registry.image([TREE, link, Member("opt/tool/here/x", b"x")], architecture=HERE)})
    with pytest.raises(Refused, match="has a parent that is not a folder"):
        get(tree(f"{registry.repository()}:1", digest), paths)


def test_a_program_that_is_a_link_is_refused(registry: Registry, paths: LabPaths) -> None:
    """An install does not follow a link in place of the program."""
    link = replace(TOOL, content=b"", kind=tarfile.SYMTYPE, link="/bin/sh")
    digest = registry.index({HERE: registry.image([link], architecture=HERE)})
    with pytest.raises(Refused, match="is a symbolic link, neither a file nor a folder"):
        get(tool(f"{registry.repository()}:1", digest), paths)


def test_a_name_from_the_root_is_one_of_the_image(registry: Registry, paths: LabPaths, tmp_path: Path) -> None:
    """A path with a leading slash is relative to the image's root; the same path on this machine is not touched."""
    mine = tmp_path / "mine"
    mine.write_text("mine")
    members = [Member(str(mine), b"yours"), replace(TOOL, name=f"/{TOOL.name}")]
    digest = registry.index({HERE: registry.image(members, architecture=HERE)})
    assert says(get(tool(f"{registry.repository()}:1", digest), paths)) == "tool 1.2.3"
    assert mine.read_text() == "mine"


def test_a_program_gets_no_rights_from_its_image(registry: Registry, paths: LabPaths) -> None:
    """Set-user-ID and set-group-ID bits are dropped, and only the owner may write."""
    digest = registry.index({HERE: registry.image([replace(TOOL, mode=0o6777)], architecture=HERE)})
    program = get(tool(f"{registry.repository()}:1", digest), paths)
    assert oct(program.path.stat().st_mode & 0o7777) == "0o755"


def test_upper_layers_hide_what_they_remove(registry: Registry, paths: LabPaths) -> None:
    """A folder is the result of all layers: replaced, removed, emptied and linked entries included."""
    lowest = [
        *(Member(f"opt/tool/{name}", b"old") for name in ("bin/tool", "lib/gone", "lib/kept", "etc/one", "data/x")),
        *(Member("opt/other", b"x"), Member("opt/tool/to-folder", b"x"), Member("opt/tool/to-file/x", b"x")),
    ]
    middle = [
        *(TREE, Member("opt/tool/lib/.wh.gone"), Member("opt/tool/etc/.wh..wh..opq"), Member("opt/tool/etc/two", b"2")),
        *(Member("opt/tool/.wh.data"), Member("opt/tool/to-folder/y", b"y"), Member("opt/tool/to-file", b"y")),
        Member("opt/tool/to-folder", kind=tarfile.DIRTYPE, mode=0o755),
    ]
    highest = [
        Member("opt/tool/lib", kind=tarfile.DIRTYPE, mode=0o755),
        Member("opt/tool/lib/link", kind=tarfile.SYMTYPE, link="../bin/tool"),
        Member("opt/tool/lib/same", b"same"),
        Member("opt/tool/lib/hard", kind=tarfile.LNKTYPE, link="opt/tool/lib/same"),
    ]
    digest = registry.index({HERE: registry.image(lowest, middle, highest, architecture=HERE)})
    program = get(tree(f"{registry.repository()}:1", digest), paths)
    assert says(program) == "tool 1.2.3"
    top = program.path.parents[1]
    there = {str(path.relative_to(top)) for path in top.rglob("*") if not path.is_dir()}
    kept = {"bin/tool", "lib/kept", "lib/link", "lib/same", "lib/hard", "etc/two"}
    assert there == {*kept, "to-folder/y", "to-file"}
    assert (top / "lib/link").resolve() == program.path
    assert (top / "lib/hard").read_text() == "same"


@pytest.mark.parametrize("upper", [".wh.tool", ".wh..wh..opq"])
def test_a_program_that_an_upper_layer_removes_is_not_there(upper: str, registry: Registry, paths: LabPaths) -> None:
    """A program is missing if an upper layer removes it or empties its folder."""
    digest = registry.index({HERE: registry.image([TOOL], [Member(f"usr/local/bin/{upper}")], architecture=HERE)})
    with pytest.raises(ProgramMissing, match=r"has no usr/local/bin/tool"):
        get(tool(f"{registry.repository()}:1", digest), paths)


def test_what_is_too_large_is_refused(registry: Registry, paths: LabPaths) -> None:
    """A layer over the limit is not downloaded, and one that unpacks to more is rejected at the limit."""
    bomb = Member("usr/local/bin/zeros", bytes(50_000_000))
    digest = registry.index({HERE: registry.image([TOOL, bomb], architecture=HERE)})
    wanted = tool(f"{registry.repository()}:1", digest)
    store = Store(wanted, paths)
    with pytest.raises(Refused, match="MB is refused"):
        from_image(store, lambda text: None, Limits(layer=1000))
    assert not store.downloads.exists()
    with pytest.raises(Refused, match="larger than 10 MB once it is unpacked"):
        from_image(store, lambda text: None, Limits(unpacked=10_000_000))
    assert nothing_is_there(wanted, paths)
    assert from_image(store, lambda text: None).sha256


def test_a_header_that_would_fill_the_memory_is_refused(registry: Registry, paths: LabPaths) -> None:
    """An extended header of many megabytes is not read."""
    layer = packed([Member("long", bytes(5_000_000), kind=tarfile.XHDTYPE), TOOL])
    config = registry.blob(b'{"os": "linux", "architecture": "amd64"}', "application/vnd.oci.image.config.v1+json")
    image = registry.manifest(
        {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": [registry.blob(layer, LAYER)],
        }
    )
    with pytest.raises(Refused, match="header of 5000000 bytes"):
        get(tool(f"{registry.repository()}:1", registry.index({HERE: image})), paths)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("application/vnd.oci.image.layer.v1.tar+zstd", "compressed with zstd"),
        ("application/vnd.example.thing", "unsupported media type"),
    ],
)
def test_a_layer_of_another_kind_is_refused(kind: str, why: str, registry: Registry, paths: LabPaths) -> None:
    """The error names a layer format that the installer can't read."""
    digest = registry.index({HERE: registry.image([TOOL], architecture=HERE, kind=kind)})
    with pytest.raises(Refused, match=why):
        get(tool(f"{registry.repository()}:1", digest), paths)


def test_a_layer_that_is_no_archive_is_refused(registry: Registry, paths: LabPaths) -> None:
    """A layer with the right SHA-256 that is not a gzip or tar archive is rejected with an error."""
    for number, content in enumerate((b"no gzip", packed([TOOL])[:-20])):
        config = registry.blob(b'{"os": "linux", "architecture": "amd64"}', "application/vnd.oci.image.config.v1+json")
        image = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config}
        broken = registry.manifest({**image, "layers": [registry.blob(content, LAYER)]})
        wanted = tool(f"{registry.repository()}:1", registry.index({HERE: broken}, tag=f"broken{number}"))
        with pytest.raises(Refused, match="can't be unpacked"):
            get(wanted, paths)
        assert nothing_is_there(wanted, paths)


def test_an_image_that_is_not_there_for_this_machine(registry: Registry, paths: LabPaths) -> None:
    """The error names the platforms of the image, whether it is an index or an image for one platform."""
    image = registry.image([TOOL], architecture="s390x")
    for digest in (registry.index({"s390x": image}, tag="s390x"), image["digest"]):
        with pytest.raises(ProgramMissing, match=rf"is available for linux/s390x, not for linux/{HERE}"):
            get(tool(f"{registry.repository()}:1", digest), paths)


def test_something_that_is_no_image(registry: Registry, paths: LabPaths, tmp_path: Path) -> None:
    """A web page in place of the registry, such as a network's login page, is not taken for an image."""
    page = tmp_path / "pages/v2/lab-standin/tool/manifests"
    page.mkdir(parents=True)
    (page / "1.html").write_text("<html>Please log in</html>")
    port = choose(5000, {registry.port})
    server = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with subprocess.Popen(server, cwd=tmp_path / "pages", stderr=subprocess.DEVNULL) as process:
        try:
            ask = [sys.executable, "-c", f"import socket; socket.create_connection(('127.0.0.1', {port}))"]
            assert wait_until(lambda: subprocess.run(ask, stderr=subprocess.DEVNULL).returncode == 0, 20)
            versions = {"images": {"tool": {"image": f"{registry.repository(port=port)}:1.html"}}}
            with pytest.raises(DownloadFailed, match=r"no image manifest for .*, but 'text/html'"):
                lock(versions)
        finally:
            process.terminate()


def test_a_registry_that_is_away(paths: LabPaths) -> None:
    """An unavailable registry is reported at once, with the cause and the next step, and nothing is installed."""
    wanted = tool(f"127.0.0.1:{choose(5000, set())}/lab-standin/tool:1", "sha256:" + "0" * 64)
    with pytest.raises(ProgramMissing, match=r"can't be queried: .*refused") as failed:
        get(wanted, paths)
    assert "check the network" in failed.value.next_step
    assert nothing_is_there(wanted, paths)


def command(registry_at: str, digest: str, tmp_path: Path) -> dict[str, Any]:
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


def istiod(registry: Registry, size: int) -> str:
    """Upload a stand-in for istiod's image, its program followed by `size` zero bytes, and return its digest."""
    program = Member("usr/local/bin/pilot-discovery", SCRIPT + bytes(size), mode=0o755)
    return registry.index({HERE: registry.image([program], architecture=HERE)}, tag="istiod")


@pytest.mark.parametrize("how", short_sample([signal.SIGKILL, signal.SIGINT], 1))
def test_an_install_that_is_interrupted_leaves_nothing_half(
    how: signal.Signals, registry: Registry, tmp_path: Path
) -> None:
    """After a kill or Ctrl-C during the unpacking, nothing counts as installed, and the next install succeeds."""
    options = command(registry.repository(), istiod(registry, 400_000_000), tmp_path)
    home = tmp_path / "cache/saga-lab/programs/istiod"
    with subprocess.Popen([*COMMAND, "istiod", "--from", "image"], **options) as process:
        assert wait_until(
            lambda: process.poll() is not None or any(f.stat().st_size for f in home.glob(f"{GROWING}*/files/*")), 60
        )
        assert process.poll() is None, process.communicate()
        process.send_signal(how)
        process.communicate(timeout=30)
        assert process.returncode == (130 if how == signal.SIGINT else -9)
    assert not list(home.glob("*/record.json"))
    if how == signal.SIGINT:
        assert not list(home.glob(f"{GROWING}*"))
    again = subprocess.run([*COMMAND, "istiod", "--from", "image", "--json"], **options, timeout=120)
    assert again.returncode == 0, again.stderr
    assert not list(home.glob(f"{GROWING}*"))
    assert len(list(home.glob("*/record.json"))) == 1


def test_two_installs_at_once(registry: Registry, tmp_path: Path) -> None:
    """A second install reports that it waits for the first and reuses its program; the layer is downloaded once."""
    with Proxy(registry.port).running() as network:
        options = command(registry.repository(port=network.port), istiod(registry, 1000), tmp_path)
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


def test_a_digest_that_nobody_knows_is_read_once_and_enforced(
    registry: Registry, paths: LabPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first use of a tag records its digest for this user, and later installs keep to it when the tag moves."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    image = f"{registry.repository()}:moving"
    first = registry.index({HERE: registry.image([TOOL])}, tag="moving")
    told: list[str] = []
    progress = Progress(lambda seen: told.extend(stage.note for stage in seen.stages))
    install(tool(image, ""), paths, progress, ways=["image"])
    assert known_digest(image) == first
    assert any(first in note and str(digests_file()) in note for note in told)
    registry.index({HERE: registry.image([replace(TOOL, content=b"#!/bin/sh\necho newer\n")])}, tag="moving")
    how = {"version": "1.2.3", "program": "tool", "image": image, "path": "usr/local/bin/tool"}
    versions = {"programs": {"tool": how}}
    assert get(replace(entry("tool", versions), version="again"), paths).origin.endswith(first)
    newer = lock_program("tool", versions)
    assert newer.in_image is not None
    assert newer.in_image.digest not in (first, "")
    assert says(get(newer, paths)) == "newer"


def test_digests_are_read_from_the_registry_without_docker(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`lab images lock` records the registry's digest once per image, and rejects an image for other platforms only."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    both = {kind: registry.image([TOOL], architecture=kind) for kind in ("amd64", "arm64")}
    digest = registry.index(both, tag="both")
    image = f"{registry.repository()}:both"
    versions = {"images": {"tool": {"image": image}}, "programs": {"tool": {"image": image}}}
    (locked,) = lock(versions)
    assert (locked.digest, locked.platforms) == (digest, ("linux/amd64", "linux/arm64"))
    assert known_digest(image) == digest
    registry.index({"s390x": both["amd64"]}, tag="both")
    with pytest.raises(LabError, match=r"both is available for linux/s390x, not for linux/"):
        lock(versions)
    assert known_digest(image) == digest


def test_another_digest_means_another_install(registry: Registry, paths: LabPaths) -> None:
    """An install replaces a program from an image that is no longer the pinned one."""
    image = f"{registry.repository()}:1"
    get(tool(image, registry.index({HERE: registry.image([TOOL])})), paths)
    newer = replace(TOOL, content=b"#!/bin/sh\necho newer\n")
    assert says(get(tool(image, registry.index({HERE: registry.image([newer])})), paths)) == "newer"


@pytest.mark.parametrize(
    ("name", "url", "tag"),
    [
        ("postgres:16", "https://registry-1.docker.io/v2/library/postgres", "16"),
        ("prom/prometheus", "https://registry-1.docker.io/v2/prom/prometheus", "latest"),
        ("docker.io/prom/prometheus:v3.5.0", "https://registry-1.docker.io/v2/prom/prometheus", "v3.5.0"),
        (f"quay.io/debezium/connect:3.7@sha256:{64 * 'a'}", "https://quay.io/v2/debezium/connect", "3.7"),
        ("registry:5000/a/b/c_d:1", "https://registry:5000/v2/a/b/c_d", "1"),
        ("localhost/tool:1", "http://localhost/v2/tool", "1"),
        ("127.0.0.1:5000/lab/tool:1", "http://127.0.0.1:5000/v2/lab/tool", "1"),
        ("[::1]:5000/tool", "http://[::1]:5000/v2/tool", "latest"),
    ],
)
def test_an_image_name(name: str, url: str, tag: str) -> None:
    """A name leads to its repository at its registry; Docker Hub is the default, and a local registry has no TLS."""
    parsed = ImageName.of(name)
    assert (parsed.url, parsed.tag) == (url, tag)


@pytest.mark.parametrize("name", ["", "Tool", "tool:", "tool@sha256:12", "a//b", "tool:1 ", "../tool", "-tool"])
def test_a_name_that_is_no_image(name: str) -> None:
    """An invalid name is refused, with the syntax."""
    with pytest.raises(DownloadFailed, match="is not a valid image name") as failed:
        ImageName.of(name)
    assert "[REGISTRY/]REPOSITORY" in failed.value.next_step
