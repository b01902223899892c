"""The instructor's page of the learners' progress, served by a real hub behind its proxy."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from labkit.exercises import course
from labkit.exercises.hand_in import as_json
from labkit.exercises.hand_ins import HandIns
from labkit.exercises.progress import ProgressFile
from labkit.exercises.standing import Standing
from labstack.waiting import wait_until
from tests.hub.running import ADMIN_PASSWORD, PASSWORD, Hub

NAMES = [exercise.name for exercises in course().values() for exercise in exercises]
RECORD = """
import sys
from pathlib import Path
from labkit.exercises.progress import ProgressFile
ProgressFile(Path(sys.argv[1])).record_outcome(sys.argv[2], "right", "SELECT 1 < 2", "Yes.")
"""


def hand_in(folder: Path, who: str = "", solved: int = 1) -> dict[str, Any]:
    """Return a hand-in in which the first exercises are solved, and the next one was tried."""
    from datetime import UTC, datetime

    progress = ProgressFile(folder)
    for name in NAMES[:solved]:
        progress.record_outcome(name, "right", "SELECT 1 < 2", "Yes.")
    progress.record_outcome(NAMES[solved], "wrong", "</pre><script>alert(1)</script>", "No.")
    found: dict[str, Any] = json.loads(as_json(Standing.of(progress.entries()), who, datetime.now(UTC)))
    return found


def post(hub: Hub, token: str, content: object) -> httpx.Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    headers = {"Authorization": f"token {token}"}
    return hub.client.post(f"{hub.url}/services/progress/hand-in", content=body, headers=headers)


def user_with_token(hub: Hub, name: str) -> str:
    hub.add_user(name)
    return hub.token_of(name)


def test_an_instructor_sees_every_learner(local_hub: Hub, tmp_path: Path) -> None:
    """The page has a row for each learner with the solved exercises, and the exercises that few solved."""
    for name, solved in (("ada", 2), ("bob", 1)):
        token = user_with_token(local_hub, name)
        assert post(local_hub, token, hand_in(tmp_path / name, solved=solved)).status_code == 204
    with local_hub.login("instructor", ADMIN_PASSWORD) as browser:
        page = browser.get(f"{local_hub.url}/services/progress/").raise_for_status().text
        total = len(NAMES) + len(list((Path(__file__).parents[2] / "notebooks" / "build").glob("*.ipynb")))
        assert f'<a href="learners/ada">ada</a></td><td>2/{total}</td>' in page
        assert f'<a href="learners/bob">bob</a></td><td>1/{total}</td>' in page
        assert f"00 {NAMES[1]}: tried, 1 attempts" in page
        assert f"<td>00</td><td>{NAMES[1]}</td><td>2</td><td>1</td>" in page
        assert "204 POST /services/progress/hand-in" in local_hub.log.read_text()
        details = browser.get(f"{local_hub.url}/services/progress/learners/bob").raise_for_status().text
        assert "SELECT 1 &lt; 2" in details
        assert "<script>alert" not in details
        archive = browser.get(f"{local_hub.url}/services/progress/hand-ins.zip").raise_for_status().content
    zipfile.ZipFile(io.BytesIO(archive)).extractall(tmp_path / "downloaded")
    table = HandIns(tmp_path / "downloaded").table.set_index("learner")
    assert {"ada", "bob"} <= set(table.index)
    assert table.loc["ada", "solved"] == f"2/{total}"


def test_a_learner_sees_only_the_own_progress(local_hub: Hub, tmp_path: Path) -> None:
    """A learner's page is the own one; the others, the overview and the archive are refused."""
    for name in ("carl", "dora"):
        assert post(local_hub, user_with_token(local_hub, name), hand_in(tmp_path / name)).status_code == 204
    with local_hub.login("carl", PASSWORD) as browser:
        own = browser.get(f"{local_hub.url}/services/progress/").raise_for_status()
        assert own.url.path.endswith("/learners/carl")
        for path in ("learners/dora", "hand-ins.zip"):
            assert browser.get(f"{local_hub.url}/services/progress/{path}").status_code == 403


def test_a_hand_in_counts_for_the_user_whom_the_hub_names(local_hub: Hub, tmp_path: Path) -> None:
    """The name in a hand-in is replaced, so a learner can't hand in for another one."""
    token = user_with_token(local_hub, "eve")
    user_with_token(local_hub, "fred")
    assert post(local_hub, token, hand_in(tmp_path, who="fred")).status_code == 204
    with local_hub.login("instructor", ADMIN_PASSWORD) as browser:
        assert "SELECT 1" in browser.get(f"{local_hub.url}/services/progress/learners/eve").text
        assert "No exercise has been tried yet" in browser.get(f"{local_hub.url}/services/progress/learners/fred").text


def test_a_request_without_a_token_is_refused(local_hub: Hub, tmp_path: Path) -> None:
    """Nothing is stored without a valid token in the header, not even with the cookies of a login."""
    address = f"{local_hub.url}/services/progress/hand-in"
    body = json.dumps(hand_in(tmp_path))
    assert local_hub.client.post(address, content=body).status_code == 403
    assert post(local_hub, "wrong", hand_in(tmp_path)).status_code == 403
    user_with_token(local_hub, "gus")
    with local_hub.login("gus", PASSWORD) as browser:
        browser.get(f"{local_hub.url}/services/progress/").raise_for_status()
        assert browser.post(address, content=body).status_code == 403


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Expecting value"),
        (b"[]", "the format is not"),
        (b'{"format": "saga-lab-hand-in/1", "items": 7}', "items is not a list"),
        (b'{"format": "saga-lab-hand-in/1", "items": [{}]}', "an item has no valid notebook"),
        (b'{"format": "saga-lab-hand-in/1", "items": [' + b"{}, " * 500 + b"{}]}", "more than 500 items"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"format": "saga-lab-hand-in/1", "who": "\\ud800"}', "surrogates not allowed"),
    ],
    ids=["empty", "list", "no items", "empty item", "too many items", "nested", "half a surrogate pair"],
)
def test_anything_else_is_not_stored(local_hub: Hub, content: bytes, message: str) -> None:
    """A body that is not a hand-in gets status 400 with the reason."""
    name = f"hal-{len(content)}"
    answer = post(local_hub, user_with_token(local_hub, name), content)
    assert answer.status_code == 400
    assert message in answer.json()["message"]
    assert (
        "No exercise"
        in local_hub.client.get(
            f"{local_hub.url}/services/progress/learners/{name}",
            headers={"Authorization": f"token {local_hub.token_of(name)}"},
        ).text
    )


def test_a_learners_password_does_not_open_the_instructors_account(local_hub: Hub) -> None:
    """With the password of the room, a login as the instructor fails."""
    with pytest.raises(httpx.HTTPStatusError, match="403"), local_hub.login("instructor", PASSWORD):
        pass


def test_a_learners_server_reports_each_change(local_hub: Hub, tmp_path: Path) -> None:
    """With the environment that the hub gives to a learner's server, labkit reports a solved exercise."""
    local_hub.add_user("ida")
    local_hub.api("POST", "/users/ida/server").raise_for_status()
    wait_until(lambda: local_hub.api("GET", "/users/ida").json()["servers"].get("", {}).get("ready"), 120)
    given = environment_of_server("ida")
    environment = {**os.environ, **given, "LAB_PROGRESS_URL": f"{local_hub.url}/services/progress/hand-in"}
    command = [sys.executable, "-c", RECORD, str(tmp_path / "ida"), NAMES[0]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    with local_hub.login("instructor", ADMIN_PASSWORD) as browser:
        assert "SELECT 1 &lt; 2" in browser.get(f"{local_hub.url}/services/progress/learners/ida").text
    # Progress in a second lab is added, and replaces nothing.
    command = [sys.executable, "-c", RECORD, str(tmp_path / "mine"), NAMES[1]]
    subprocess.run(command, env=environment, check=True)
    with local_hub.login("instructor", ADMIN_PASSWORD) as browser:
        page = browser.get(f"{local_hub.url}/services/progress/").text
        assert re.search(r">ida</a></td><td>2/", page)
    # The server's token may report, but does not show other learners.
    headers = {"Authorization": f"token {given['JUPYTERHUB_API_TOKEN']}"}
    others = local_hub.client.get(f"{local_hub.url}/services/progress/hand-ins.zip", headers=headers)
    assert others.status_code == 403
    local_hub.api("DELETE", "/users/ida/server")


def test_progress_in_several_labs_is_merged(tmp_path: Path) -> None:
    """A solved exercise stays solved, attempts are not lost, and the first guess of a prediction counts."""
    first, second = ProgressFile(tmp_path / "default"), ProgressFile(tmp_path / "mine")
    first.record_outcome(NAMES[0], "wrong", "1", "No.")
    first.record_outcome(NAMES[0], "right", "2", "Yes.")
    second.record_outcome(NAMES[0], "wrong", "3", "No.")
    second.record_outcome(NAMES[1], "right", "4", "Yes.")
    for progress, guess, at in ((first, "late", "2026-01-02"), (second, "early", "2026-01-01")):
        progress._change("predict", guess=guess, at=at)
    for progress in (first, second):
        found = progress._in_all_labs()
        assert (found[NAMES[0]]["answer"], found[NAMES[0]]["attempts"]) == ("2", 2)
        assert found[NAMES[1]]["answer"] == "4"
        assert found["predict"]["guess"] == "early"


def environment_of_server(name: str) -> dict[str, str]:
    """Return the variables that the hub has passed to a learner's server, which is a process of this machine."""
    for process in psutil.process_iter():
        try:
            given = process.environ()
        except (psutil.Error, OSError):
            continue
        if given.get("JUPYTERHUB_USER") == name and "jupyterhub.singleuser" in process.cmdline():
            return {key: value for key, value in given.items() if key.startswith(("JUPYTERHUB_", "LAB_"))}
    raise AssertionError(f"no server of {name} is running")


def test_without_a_hub_nothing_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no address is set, recording progress starts no thread and opens no connection."""
    from labkit.exercises import reporting

    monkeypatch.delenv(reporting.VARIABLE, raising=False)
    ProgressFile(tmp_path).record_outcome(NAMES[0], "right")
    assert reporting.reporter._sender is None


def test_a_hub_that_does_not_answer_disturbs_no_learner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the page can't be reached, progress is recorded as usual, and no error is shown."""
    from labkit.exercises import reporting

    monkeypatch.setenv(reporting.VARIABLE, "http://127.0.0.1:9/services/progress/hand-in")
    progress = ProgressFile(tmp_path)
    progress.record_outcome(NAMES[0], "right")
    reporting.reporter.flush()
    assert progress.solved(NAMES[0])
