"""A scenario's settings of what carries the stream: transport, hosts, and the link between them."""

from __future__ import annotations

from dataclasses import dataclass

from driver.transport import TRANSPORTS, Transport
from workload.errors import BadValueError
from workload.value import setting

HOSTS = ("here", "namespaces", "ssh")
SHAPERS = ("tbf", "htb")


@dataclass(frozen=True, kw_only=True)
class Carriage:
    """How source and destination are joined; part of every scenario."""

    transport: str = setting(
        "unix", unit="", help="what carries the stream, or the file that the guest is saved to and loaded from",
        group="transport", choices=tuple(TRANSPORTS),
    )  # fmt: skip
    hosts: str = setting(
        "here", unit="", group="transport", choices=HOSTS,
        help="where the QEMUs run: both here, in two network namespaces joined by a link (needs root), or the"
        " destination on the host that --destination-host names",
    )  # fmt: skip
    link_mbit_s: int = setting(
        0, unit="Mbit/s", help="speed of the link between the namespaces; 0 = not limited", group="transport", low=1,
        high=1_000_000, zero=True,
    )  # fmt: skip
    link_shaper: str = setting(
        "tbf", unit="", help="what limits the link: token bucket or hierarchical token bucket", group="transport",
        choices=SHAPERS,
    )  # fmt: skip

    @property
    def carrier(self) -> Transport:
        """The facts of the transport."""
        return TRANSPORTS[self.transport]

    def check_carriage(self) -> None:
        """Check what no setting can say by itself.

        Raises:
            BadValueError: the settings do not go together.
        """
        if self.link_mbit_s and self.hosts != "namespaces":
            raise BadValueError(f"scenario.link_mbit_s={self.link_mbit_s}: want hosts=namespaces, which the link joins")
        if self.hosts != "here":
            self.check_able("crosses_hosts", f"does not leave the host, with hosts={self.hosts}")

    def check_able(self, fact: str, what_is_wrong: str) -> None:
        """Check that the transport has a fact of `Transport`.

        Raises:
            BadValueError: with what is wrong, and the transports that have it.
        """
        if not getattr(self.carrier, fact):
            able = ", ".join(name for name, facts in TRANSPORTS.items() if getattr(facts, fact))
            raise BadValueError(f"scenario.transport={self.transport!r}: {what_is_wrong}; want one of {able}")
