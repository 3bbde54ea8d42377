"""What is done so that a migration finishes: a table of small classes, one a strategy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from driver.monitor import Commands
from driver.scenario import Scenario


class Strategy(Protocol):
    """One strategy: what it needs negotiated, and the one step that it takes while the migration runs.

    `step_after` is the iteration after which the step is due, 0 where there is none (QEMU itself does the rest).
    """

    def capabilities(self, scenario: Scenario) -> tuple[str, ...]:
        """QEMU's capabilities to switch on, on both sides."""

    def parameters(self, scenario: Scenario) -> Mapping[str, int]:
        """QEMU's parameters to set, on both sides."""

    def step_after(self, scenario: Scenario) -> int:
        """The iteration after which `step` is due; 0 = never."""

    async def step(self, source: Commands) -> None:
        """Take the step."""


class Nothing:
    """Plain pre-copy; also what the others are built on."""

    def capabilities(self, scenario: Scenario) -> tuple[str, ...]:  # noqa: ARG002 - a strategy's signature
        """None."""
        return ()

    def parameters(self, scenario: Scenario) -> Mapping[str, int]:  # noqa: ARG002
        """None."""
        return {}

    def step_after(self, scenario: Scenario) -> int:  # noqa: ARG002
        """Never."""
        return 0

    async def step(self, source: Commands) -> None:
        """Do nothing."""


class Pause(Nothing):
    """Stop the guest: it dirties nothing more, and is dark until the destination runs."""

    def step_after(self, scenario: Scenario) -> int:
        """After `pause_iterations`."""
        return scenario.pause_iterations

    async def step(self, source: Commands) -> None:
        """Stop the guest on the source; the destination is continued by hand, since it takes over a stopped guest."""
        await source.execute("stop")


class PostCopy(Nothing):
    """Switch over first and fetch what is missing afterwards."""

    def capabilities(self, scenario: Scenario) -> tuple[str, ...]:  # noqa: ARG002
        """Post-copy; the destination needs userfaultfd for it."""
        return ("postcopy-ram",)

    def parameters(self, scenario: Scenario) -> Mapping[str, int]:
        """Post-copy's bandwidth is capped as well."""
        return {"max-postcopy-bandwidth": scenario.bandwidth_bytes_per_second}

    def step_after(self, scenario: Scenario) -> int:
        """After `post_copy_iterations`."""
        return scenario.post_copy_iterations

    async def step(self, source: Commands) -> None:
        """Switch to post-copy."""
        await source.execute("migrate-start-postcopy")


class AutoConverge(Nothing):
    """Let QEMU throttle the vCPUs until they dirty less than can be sent."""

    def capabilities(self, scenario: Scenario) -> tuple[str, ...]:  # noqa: ARG002
        """Auto-converge."""
        return ("auto-converge",)

    def parameters(self, scenario: Scenario) -> Mapping[str, int]:
        """First throttle, step and maximum."""
        return {
            "cpu-throttle-initial": scenario.auto_converge_initial,
            "cpu-throttle-increment": scenario.auto_converge_increment,
            "max-cpu-throttle": scenario.auto_converge_max,
        }


STRATEGIES: dict[str, Strategy] = {
    "none": Nothing(),
    "pause": Pause(),
    "post-copy": PostCopy(),
    "auto-converge": AutoConverge(),
}
"""Each strategy of `scenario.STRATEGIES`."""
