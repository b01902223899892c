"""Every observability component has all the entries from which the lab derives its lists (CONTRIBUTING.md)."""

from __future__ import annotations

import pytest

from labstack.backends.docker.backend import OBSERVERS as CONTAINERS
from labstack.backends.processes.backend import OBSERVERS as PROCESSES
from labstack.config.paths import CONFIG
from labstack.config.versions import VERSIONS
from labstack.lifecycle.extensions import RESERVED_NAMES
from labstack.observability.observers import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_observer_has_its_folder_and_its_entries(name: str) -> None:
    """Each observer has a folder of configuration, an image, an install source and a licence."""
    assert (CONFIG / name).is_dir()
    assert VERSIONS["images"][name]["image"] == VERSIONS["programs"][name]["image"]
    assert {"image", "archive"} <= VERSIONS["programs"][name].keys()
    assert VERSIONS["programs"][name]["licence"]


def test_an_observer_has_one_class_for_each_backend() -> None:
    """The classes of both backends are found by the observers' names, in their order, with the same usual port."""
    for classes in (PROCESSES, CONTAINERS):
        assert tuple(one.name for one in classes) == NAMES
    for process, container in zip(PROCESSES, CONTAINERS, strict=True):
        assert process.ports[process.name] == container.usual_port
        assert container.image_name == container.name


def test_usual_ports_differ() -> None:
    """No two observers have the same usual port."""
    usual = [number for one in PROCESSES for number in one.ports.values()]
    assert len(usual) == len(set(usual))


def test_no_extension_service_takes_the_name_of_an_observer() -> None:
    """The names of the observers are reserved."""
    assert set(NAMES) <= RESERVED_NAMES
