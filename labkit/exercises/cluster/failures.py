"""The exercises of notebook 14. They need a lab that is attached to a cluster."""

from __future__ import annotations

import json
from typing import Any

import yaml

from labkit.cluster import apply, kubectl_of, on_standby
from labkit.errors import QueryFailed, database_errors
from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong
from labkit.waiting import wait_until
from labstack import waiting
from labstack.backends.kubernetes.kubectl import Kubectl, KubectlFailed

WATCHER = "connect-watcher"
POD_TIMEOUT = 180.0
"""Seconds until a pod must be ready, or the cluster must have counted the pods of a budget."""
SYNC_TIMEOUT = 150.0
"""Seconds until a standby must have a slot. An idle standby looks for new slots every 30 s."""
STUCK, WRONG_SETTING = (
    "shipping",
    {"name": "LAB_DATABASE_URL", "value": "postgresql://shipping@shiping-db-rw:5432/shipping"},
)
SLOT = "audit"
OF_THE_SLOT = f"FROM pg_replication_slots WHERE slot_name = '{SLOT}'"
SYNCED = f"SELECT 1 {OF_THE_SLOT} AND synced AND NOT temporary"


def _budget(body: str, selector: str = "{app.kubernetes.io/name: connect-watcher}") -> str:
    return f'''
        answer = """
        apiVersion: policy/v1
        kind: PodDisruptionBudget
        metadata: {{name: watchers}}
        spec:
          {body}
          selector: {{matchLabels: {selector}}}
        """
    '''


class ABudgetThatLetsGo(Exercise):
    """A disruption budget for a component with one or two pods."""

    name = "a-budget-that-lets-go"
    title = "Write a PodDisruptionBudget for connect-watcher that protects two pods and does not block a drain of one"
    kind = "config"
    level = 2
    minutes = 8
    hints = (
        "Look at the section *A node is drained*: which column tells how many pods may be evicted now?",
        (
            "Use `maxUnavailable` or `minAvailable`. Calculate for each how many pods may be evicted if there is one "
            "pod, and if there are two. The selector needs a label that only the pods of connect-watcher have: "
            "`!{kubectl} get pods --show-labels`."
        ),
        (
            "It begins:\n"
            "    apiVersion: policy/v1\n"
            "    kind: PodDisruptionBudget\n"
            "    metadata: {name: watchers}\n"
            "    spec:\n"
            "      maxUnavailable: ..."
        ),
    )
    answer = _budget("maxUnavailable: 1")
    why = (
        "maxUnavailable: 1 always lets one pod go: the only one of one, and one of two at a time. minAvailable: 1 "
        "protects a single pod from every eviction, so a drain of its node never ends."
    )
    mistakes = (
        Wrong(_budget("minAvailable: 1"), "never ends"),
        Wrong(_budget("maxUnavailable: 2"), "both pods at once"),
        Wrong(_budget("maxUnavailable: 1", "{app: connect-watcher}"), "matches no pod"),
        Wrong(_budget("maxUnavailable: 1", "{app.kubernetes.io/part-of: saga-lab}"), "more than one budget"),
        Wrong(_budget("maxUnavailable: one"), "rejects"),
    )
    needs_setup = False

    def check(self, bench: Bench, answer: Any) -> Verdict:
        try:
            document = yaml.safe_load(answer)
        except (yaml.YAMLError, AttributeError) as error:
            return wrong(f"This is not YAML: {error}.")
        if not isinstance(document, dict) or document.get("kind") != "PodDisruptionBudget":
            return wrong("The answer is the YAML of one object of the kind PodDisruptionBudget, as a string.")
        kubectl = kubectl_of(bench.lab)
        document["metadata"] = {"name": "lesson-watchers"}
        try:
            apply(kubectl, document)
            return self._judge(kubectl)
        except KubectlFailed as error:
            return wrong(f"The API server rejects the object: {error.reason}.")
        finally:
            kubectl.run("delete", "poddisruptionbudget", "lesson-watchers", "--ignore-not-found")
            kubectl.run("scale", "deployment", WATCHER, "--replicas=1")

    def _judge(self, kubectl: Kubectl) -> Verdict:
        allowed = {}
        for pods in (1, 2):
            kubectl.run("scale", "deployment", WATCHER, f"--replicas={pods}")
            _wait_for_pods(kubectl, WATCHER, pods)
            status = wait_until(
                lambda pods=pods: _counted(kubectl, pods),  # type: ignore[misc]
                POD_TIMEOUT,
                what="the cluster to count the pods of the budget",
                interval=0.5,
            )
            if status["expectedPods"] == 0:
                return wrong("The selector matches no pod, so the budget protects nothing. Compare it with the labels.")
            if status["expectedPods"] > pods:
                return wrong(
                    "The selector also matches pods of other components. A pod with more than one budget can't be "
                    "evicted at all, because the API server does not support that."
                )
            allowed[pods] = status["disruptionsAllowed"]
        if not allowed[1]:
            return wrong("With one pod, the budget allows no eviction, so a drain of its node never ends.")
        if allowed[2] > 1:
            return wrong("With two pods, the budget lets drains of two nodes evict both pods at once.")
        if not allowed[2]:
            return wrong("With two pods, the budget allows no eviction, so a drain never ends.")
        return right("With one pod and with two, the cluster allows one eviction at a time.")


def _wait_for_pods(kubectl: Kubectl, name: str, pods: int) -> None:
    def ready() -> bool:
        status = kubectl.json("get", "deployment", name)["status"]
        return bool(status.get("readyReplicas", 0) == status.get("replicas", 0) == pods)

    wait_until(ready, POD_TIMEOUT, what=f"{pods} ready pods of {name}", interval=0.5)


def _counted(kubectl: Kubectl, pods: int) -> dict[str, Any]:
    """Return the budget's status once the cluster has counted all pods that it matches; until then, an empty one."""
    found = kubectl.json("get", "poddisruptionbudget", "lesson-watchers")
    status: dict[str, Any] = found.get("status", {})
    is_current = status.get("observedGeneration") == found["metadata"]["generation"]
    expected = status.get("expectedPods", 0)
    is_complete = expected != 1 if pods == 2 else True
    return status if is_current and is_complete and status["currentHealthy"] >= min(expected, pods) else {}


class ASlotThatSurvives(Exercise):
    """A logical replication slot that a failover does not lose."""

    name = "a-slot-that-survives"
    title = "Create the logical slot `audit` in the order service's database, so that it survives a failover"
    kind = "query"
    level = 2
    minutes = 7
    hints = (
        "Look at the section *The slot is on the standby, too*: which property does the relay's slot have?",
        (
            "Use pg_create_logical_replication_slot(name, plugin, ...). PostgreSQL's documentation lists five "
            "parameters, and the last one is the one that you need. The plugin is pgoutput."
        ),
        "It begins:\n    SELECT pg_create_logical_replication_slot('audit', 'pgoutput', ...",
    )
    answer = """
        answer = "SELECT pg_create_logical_replication_slot('audit', 'pgoutput', failover => true)"
    """
    why = (
        "A slot exists on one instance only, unless it is a failover slot: a standby with sync_replication_slots then "
        "copies it. Until the copy is complete (synced, not temporary), a failover still loses the slot."
    )
    mistakes = (
        Wrong("answer = \"SELECT pg_create_logical_replication_slot('audit', 'pgoutput')\"", "lost at a failover"),
        Wrong("answer = \"SELECT pg_create_physical_replication_slot('audit', true)\"", "physical"),
        Wrong(
            "answer = \"SELECT pg_create_logical_replication_slot('audit', 'pgoutput', true)\"",
            "ends with its connection",
        ),
        Wrong(
            "answer = \"SELECT pg_create_logical_replication_slot('audits', 'pgoutput', failover => true)\"",
            "no slot with the name audit",
        ),
    )
    needs_setup = False

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if not isinstance(answer, str):
            return wrong("The answer is one SQL statement, as a string.")
        kubectl_of(bench.lab)
        before = set(bench.look.db.rows("order", "SELECT slot_name FROM pg_replication_slots").slot_name) - {SLOT}
        self._drop(bench, {SLOT})
        try:
            return self._judge(bench, answer)
        finally:
            after = set(bench.look.db.rows("order", "SELECT slot_name FROM pg_replication_slots").slot_name)
            self._drop(bench, after - before)

    def _judge(self, bench: Bench, statement: str) -> Verdict:
        with bench.look.db.connect("order") as db:
            db.autocommit = True
            try:
                with database_errors("order"):
                    db.execute(statement.encode())
            except QueryFailed as error:
                return wrong(f"PostgreSQL rejects the statement: {error.problem}")
            query = f"SELECT slot_type, temporary, failover {OF_THE_SLOT}"
            found = db.execute(query).fetchone()
        if found is None:
            return wrong("The database has no slot with the name audit.")
        slot_type, temporary, failover = found
        if temporary:
            return wrong(
                "A temporary slot ends with its connection, so its reader loses its position at every restart."
            )
        if slot_type != "logical":
            return wrong("This slot is physical: a standby can use it, but no reader of row changes.")
        if not failover:
            return wrong(
                "The slot exists on the primary only (failover is false), so it is lost at a failover. Its reader "
                "would then miss every change between its position and a new slot."
            )
        if not waiting.poll_until(lambda: self._is_synced(bench), SYNC_TIMEOUT, interval=2):
            return wrong(
                "The slot is a failover slot, but no standby has it. Look at `instances` of the Cluster order-db, and "
                "at sync_replication_slots on the standby."
            )
        return right("The standby has a complete copy of the slot, so a failover keeps it.")

    def _is_synced(self, bench: Bench) -> bool:
        """Read with the slot as its reader would, because a standby can only copy a slot that moves."""
        with bench.look.db.connect("order") as db:
            db.autocommit = True
            db.execute("SELECT pg_current_xact_id()")
            db.execute(f"SELECT pg_replication_slot_advance('{SLOT}', pg_current_wal_lsn())")
        return on_standby(bench.lab, "order-db", SYNCED) == ["1"]

    def _drop(self, bench: Bench, names: set[str]) -> None:
        with bench.look.db.connect("order") as db:
            db.autocommit = True
            db.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
                "WHERE slot_name = ANY(%s) AND NOT active AND NOT temporary",
                [sorted(names)],
            )


class UndoTheRollout(Exercise):
    """A rollout whose new pod never becomes ready."""

    name = "undo-the-rollout"
    title = "One service was changed a minute ago, and its new pod does not become ready. Undo the change with kubectl"
    kind = "operation"
    level = 1
    minutes = 4
    hints = (
        "Look at the section *A rollout goes wrong*: which command shows a pod that is not ready?",
        "Use `kubectl rollout history` and `kubectl rollout undo` for the Deployment. Nothing has to be deleted.",
        "It begins:\n    !{kubectl} rollout undo deployment/...",
    )
    answer = """
        import subprocess
        from labkit.cluster import kubectl_for
        subprocess.run(f"{kubectl_for(lab)} rollout undo deployment/shipping", shell=True, check=True)
    """
    why = (
        "A Deployment keeps the pod templates of its former rollouts as ReplicaSets. `rollout undo` makes the former "
        "template the current one. The old pod was never stopped, so no customer noticed anything."
    )
    mistakes = (
        Wrong(
            """
            import subprocess
            from labkit.cluster import kubectl_for
            subprocess.run(f"{kubectl_for(lab)} delete pod {given.pod} --wait=true", shell=True, check=True)
            """,
            "another pod from the same template",
        ),
        Wrong(
            """
            import subprocess
            from labkit.cluster import kubectl_for
            subprocess.run(f"{kubectl_for(lab)} scale deployment shipping --replicas=0", shell=True, check=True)
            """,
            "no pod is left",
        ),
    )
    asks_value = False
    hidden = ("environment", "replicas", "pod")

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        kubectl = kubectl_of(bench.lab)
        before = kubectl.json("get", "deployment", STUCK)["spec"]
        environment = before["template"]["spec"]["containers"][0]["env"]
        if WRONG_SETTING in environment:  # an earlier setup
            kubectl.run("rollout", "undo", f"deployment/{STUCK}")
            return self.setup(bench)
        changed = [WRONG_SETTING if one["name"] == WRONG_SETTING["name"] else one for one in environment]
        self._patch(kubectl, ("/spec/template/spec/containers/0/env", changed))
        pod = wait_until(
            lambda: self._new_pod(kubectl), POD_TIMEOUT, what="the new pod of the changed service", interval=0.5
        )
        message = "A colleague has changed the setting of one service. Its new pod does not become ready."
        return message, {"environment": environment, "replicas": before.get("replicas", 1), "pod": pod}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        kubectl = kubectl_of(bench.lab)
        if self._is_repaired(kubectl, bench.given) or (
            self._environment(kubectl) == bench.given.environment
            and waiting.poll_until(lambda: self._is_repaired(kubectl, bench.given), POD_TIMEOUT, interval=0.5)
        ):
            return right("The Deployment has its former template again, and every pod is ready.")
        spec = kubectl.json("get", "deployment", STUCK)["spec"]
        if not spec.get("replicas", 1):
            return wrong(
                "You stopped the service: no pod is left, neither the new one nor the old one that worked. And the "
                "Deployment still has the wrong template."
            )
        if spec.get("paused"):
            return wrong("A paused rollout stays where it is, with the wrong template.")
        pod = self._new_pod(kubectl)
        if pod and pod != bench.given.pod:
            return wrong("The Deployment has started another pod from the same template, with the same mistake.")
        return untouched("One Deployment has a pod that is not ready.")

    def cleanup(self, bench: Bench) -> str:
        kubectl = kubectl_of(bench.lab)
        if not self._is_repaired(kubectl, bench.given):
            path = "/spec/template/spec/containers/0/env"
            self._patch(kubectl, (path, bench.given.environment), ("/spec/replicas", bench.given.replicas))
            kubectl.run("patch", "deployment", STUCK, "--type=merge", '--patch={"spec": {"paused": false}}')
            wait_until(
                lambda: self._is_repaired(kubectl, bench.given), POD_TIMEOUT, what=f"the pods of {STUCK}", interval=0.5
            )
        return "Every service has its former setting."

    def _environment(self, kubectl: Kubectl) -> list[dict[str, Any]]:
        spec = kubectl.json("get", "deployment", STUCK)["spec"]
        environment: list[dict[str, Any]] = spec["template"]["spec"]["containers"][0]["env"]
        return environment

    def _is_repaired(self, kubectl: Kubectl, given: Any) -> bool:
        found = kubectl.json("get", "deployment", STUCK)
        spec, status = found["spec"], found["status"]
        counts = {status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")}
        return (
            spec["template"]["spec"]["containers"][0]["env"] == given.environment
            and status.get("observedGeneration") == found["metadata"]["generation"]
            and counts == {spec.get("replicas", 1)} != {0}
        )

    def _new_pod(self, kubectl: Kubectl) -> str:
        """Return the name of a pod with the wrong setting; empty if there is none."""
        for pod in kubectl.items("pods", f"--selector=app={STUCK},version=v1"):
            is_leaving = "deletionTimestamp" in pod["metadata"]
            if not is_leaving and any(WRONG_SETTING in one.get("env", []) for one in pod["spec"]["containers"]):
                return str(pod["metadata"]["name"])
        return ""

    def _patch(self, kubectl: Kubectl, *values: tuple[str, Any]) -> None:
        patch = json.dumps([{"op": "replace", "path": path, "value": value} for path, value in values])
        kubectl.run("patch", "deployment", STUCK, "--type=json", f"--patch={patch}")


EXERCISES = (ABudgetThatLetsGo(), ASlotThatSurvives(), UndoTheRollout())
