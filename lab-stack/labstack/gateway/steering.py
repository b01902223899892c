"""Control planes of the gateway: one interface, two implementations.

istiod generates Envoy's configuration and streams it. Where istiod is not available, the lab's translator generates the
same configuration, and Envoy reads it from files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from labstack.clients.envoy_admin import EnvoyAdmin
from labstack.errors import ComponentFailed
from labstack.gateway import istiod
from labstack.gateway.envoy_files import ACT_SECONDS, EnvoyFiles
from labstack.gateway.store import Key, key
from labstack.istio.documents import Document
from labstack.istio.errors import InvalidMesh
from labstack.istio.model.hosts import full_name
from labstack.istio.translate import translate
from labstack.waiting import poll_until


class Steering(Protocol):
    """A control plane that applies a configuration to Envoy."""

    def validate(self, new: Sequence[Document]) -> None:
        """Validate a configuration without applying it."""

    def put(self, new: Sequence[Document], before: Sequence[Document]) -> None:
        """Replace `before` with `new`, and return once Envoy uses it. On failure, `before` stays in effect."""


class TranslatorSteering:
    """The lab's translator, which writes files for Envoy.

    Parameters
    ----------
    files : EnvoyFiles
        Envoy's configuration files.
    admin : EnvoyAdmin
        Envoy's administration interface.
    """

    def __init__(self, files: EnvoyFiles, admin: EnvoyAdmin) -> None:
        self._files = files
        self._admin = admin

    def validate(self, new: Sequence[Document]) -> None:
        self._files.validate(self._files.resources(translate(new)))

    def put(self, new: Sequence[Document], before: Sequence[Document]) -> None:
        previous = self._files.read()
        try:
            self._files.swap(self._files.resources(translate(new)), previous, self._admin)
        except ComponentFailed:
            self._files.write(previous)
            raise


class IstiodSteering:
    """istiod, which streams the configuration to Envoy.

    Parameters
    ----------
    write_configuration : callable
        Writes a YAML text to istiod's folder.
    log : callable
        Returns the last lines of istiod's log.
    admin : EnvoyAdmin
        Administration interface of the Envoy that istiod configures.
    """

    def __init__(self, write_configuration: Callable[[str], None], log: Callable[[], str], admin: EnvoyAdmin) -> None:
        self._write_configuration = write_configuration
        self._log = log
        self._admin = admin

    def validate(self, new: Sequence[Document]) -> None:
        """Do nothing: istiod validates its input itself, and keeps the previous configuration if it rejects the new."""

    def put(self, new: Sequence[Document], before: Sequence[Document]) -> None:
        try:
            for step in steps(new, before):
                self._put(step)
        except BaseException:  # Ctrl-C, too, must not leave a step in between in effect
            self._write_configuration(istiod.configuration(before))
            raise

    def _put(self, new: Sequence[Document]) -> None:
        versions, rejections = self._admin.versions(), self._count_rejections()
        known = {versions.clusters, versions.listeners, *versions.routes.values()}

        def is_active() -> bool:
            now = self._admin.versions()
            return now.clusters not in known and {now.clusters} == {now.listeners, *now.routes.values()}

        def is_rejected() -> bool:
            return self._admin.versions().rejected > versions.rejected or self._count_rejections() > rejections

        self._write_configuration(istiod.configuration(new))
        # Each time istiod reads its folder, all of Envoy's resources get the same new version.
        poll_until(is_active, 0.5, interval=0.015)
        settled = poll_until(
            lambda: (is_active() and not self._admin.warming()) or is_rejected(), ACT_SECONDS, interval=0.05
        )
        if settled and not is_rejected():
            return
        if not settled:
            late = "load all clusters of" if is_active() else "receive"
            raise ComponentFailed(
                f"The gateway did not {late} its new configuration from istiod within {ACT_SECONDS:.0f} s.",
                next_step="see `lab status` and `lab logs istiod` for the cause; the active configuration is unchanged",
            )
        reason = (
            self._last_rejection()
            if self._count_rejections() > rejections
            else "Envoy rejects it; see `lab logs envoy`"
        )
        raise InvalidMesh(
            f"istiod rejected the configuration: {reason}",
            next_step="fix the problem that it names; the active configuration is unchanged",
        )

    def _count_rejections(self) -> int:
        return sum(istiod.REFUSAL in line for line in self._log().splitlines())

    def _last_rejection(self) -> str:
        lines = [line for line in self._log().splitlines() if istiod.REFUSAL in line]
        return lines[-1].split(istiod.REFUSAL, 1)[1].split(": ", 1)[-1]


CLUSTER_KINDS = ("DestinationRule", "ServiceEntry")
"""The kinds from which istiod makes Envoy's clusters."""


def steps(new: Sequence[Document], before: Sequence[Document]) -> list[Sequence[Document]]:
    """Return the configurations that lead from `before` to `new` without a failed request, in order.

    If a route names a cluster that Envoy does not have or has not finished loading, Envoy answers with 503
    (``cluster_not_found``). istiod sends clusters and routes right after each other. So the first step adds the new
    subsets and hosts, the second one changes the routes, and the third one removes the old subsets and hosts. A step
    that changes nothing is left out.

    If a document with the same name gets other hosts, its old clusters can't be kept, so there is only one step.

    Source: https://istio.io/latest/docs/ops/best-practices/traffic-management/#avoid-503-errors-while-reconfiguring-service-routes
    """
    wanted, known = {key(one): one for one in new}, {key(one): one for one in before}
    pairs = [(wanted[one], old) for one, old in known.items() if one in wanted and old.kind in CLUSTER_KINDS]
    if not all(_has_same_hosts(changed, old) for changed, old in pairs):
        return [new]
    old = [one for one in before if one.kind in CLUSTER_KINDS and key(one) not in wanted]
    both = [*old, *(_with_subsets_of(one, known.get(key(one))) for one in new if one.kind in CLUSTER_KINDS)]
    found: list[Sequence[Document]] = []
    for step in (
        [*both, *(one for one in before if one.kind not in CLUSTER_KINDS)],
        [*both, *(one for one in new if one.kind not in CLUSTER_KINDS)],
        new,
    ):
        if _by_key(step) != _by_key(found[-1] if found else before):
            found.append(step)
    return [*found[:-1], new]


def _by_key(documents: Sequence[Document]) -> dict[Key, Any]:
    return {key(one): one.data for one in documents}


def _has_same_hosts(new: Document, old: Document) -> bool:
    """Return whether a document makes clusters of the same hosts and ports as its old version, in the same scope."""
    new_host, old_host = (full_name(str(one.spec.get("host") or ""), one.namespace) for one in (new, old))
    fields = ("hosts", "ports", "exportTo", "workloadSelector")
    return new_host == old_host and all(new.spec.get(name) == old.spec.get(name) for name in fields)


def _with_subsets_of(new: Document, old: Document | None) -> Document:
    """Return a DestinationRule with the subsets that only its old version has; another document as it is."""
    if old is None or new.kind != "DestinationRule":
        return new
    names = [subset["name"] for subset in _subsets(new)]
    removed = [subset for subset in _subsets(old) if subset["name"] not in names]
    if not removed:
        return new
    return replace(new, data={**new.data, "spec": {**new.spec, "subsets": [*_subsets(new), *removed]}})


def _subsets(rule: Document) -> list[dict[str, Any]]:
    return rule.spec.get("subsets") or []
