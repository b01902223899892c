"""The folders of a user's labs, names with special characters, and concurrent writes to their files."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from labstack.config.paths import LabPaths, writable_folder, write_atomically
from labstack.config.templates import fill
from labstack.errors import LabError


def test_a_user_without_a_home_is_told_to_set_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without HOME and without an account's home, the error names HOME instead of a library's function."""
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(LabError, match="HOME is not set") as raised:
        LabPaths.of_user()
    assert "set HOME" in raised.value.next_step


def test_concurrent_writes_of_a_file_all_succeed(tmp_path: Path) -> None:
    """Eight threads that check one folder and write one file all succeed, and each reads one complete text."""
    texts = [f"{number}" * 5000 for number in range(8)]

    def work(text: str) -> str:
        for _ in range(100):
            write_atomically(writable_folder(tmp_path) / "file", text)
        return (tmp_path / "file").read_text(encoding="utf-8")

    with ThreadPoolExecutor(len(texts)) as pool:
        seen = list(pool.map(work, texts))
    assert set(seen) <= set(texts)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("folder", ["/a:b", "/a\nb", "/a\udcc3"])
@pytest.mark.parametrize("variable", ["XDG_STATE_HOME", "XDG_CACHE_HOME"])
def test_unusable_folder_is_refused_by_name(variable: str, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that a program of the lab can't use is refused before anything starts, with its name and variable."""
    monkeypatch.setenv(variable, folder)
    with pytest.raises(LabError) as refused:
        LabPaths.of_user()
    assert ascii(folder)[1:-1] in refused.value.problem
    assert variable in refused.value.next_step


@pytest.mark.parametrize("value", ["relative", ""])
def test_relative_and_empty_folders_do_not_count(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a relative or empty folder in the environment, every command still finds the same lab."""
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, value)
    paths = LabPaths.of_user()
    assert paths.state.is_absolute()
    assert paths.cache.is_absolute()


@pytest.mark.parametrize("folder", ["/zoë", "/日本", "/a,b", "/a\\b", "/${HOME}", "/100% #1 'q' [x]"])
def test_folder_with_special_characters_is_accepted(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other folders are accepted, and configuration files contain paths relative to the state folder."""
    monkeypatch.setenv("XDG_STATE_HOME", folder)
    paths = LabPaths.of_user("lab")
    assert paths.state == Path(folder) / "saga-lab" / "lab"
    assert paths.relative(paths.data("kafka")) == "data/kafka"


def test_filled_in_value_is_not_filled_in_again(tmp_path: Path) -> None:
    """A value that looks like a placeholder stays as it is; an unknown placeholder of the template is an error."""
    template = tmp_path / "template"
    template.write_text("data = ${DATA}\n")
    assert fill(template, {"DATA": "/${HOME}", "HOME": "/x"}) == "data = /${HOME}\n"
    with pytest.raises(LabError, match="DATA"):
        fill(template, {"OTHER": "x"})
