"""Control planes of the gateway: one interface, two implementations.

istiod generates Envoy's configuration and streams it. Where istiod is not available, the lab's translator generates the
same configuration, and Envoy reads it from files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from labstack.clients.envoy_admin import EnvoyAdmin
from labstack.errors import ComponentFailed
from labstack.gateway import istiod
from labstack.gateway.envoy_files import ACT_SECONDS, EnvoyFiles
from labstack.istio.documents import Document
from labstack.istio.errors import InvalidMesh
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
        settled = poll_until(lambda: is_active() or is_rejected(), ACT_SECONDS, interval=0.05)
        if settled and not is_rejected():
            return
        reason = (
            self._last_rejection()
            if self._count_rejections() > rejections
            else "Envoy rejects it; see `lab logs envoy`"
        )
        self._write_configuration(istiod.configuration(before))
        if not settled:
            raise ComponentFailed(
                f"The gateway did not receive its new configuration from istiod within {ACT_SECONDS:.0f} s.",
                next_step="see `lab status` and `lab logs istiod` for the cause; the active configuration is unchanged",
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
