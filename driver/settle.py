"""How long a run waits for its guest to settle before it migrates, and to recover afterwards."""

from __future__ import annotations

from dataclasses import dataclass

from workload.value import check_settings, setting


@dataclass(frozen=True, kw_only=True)
class Settle:
    """Bounds, not sleeps: a guest whose pace is steady, or back, earlier is not waited for."""

    settle_seconds: float = setting(
        3.0, unit="s", help="longest wait for the guest's pace to be steady before it migrates", group="settle",
        low=0.1, high=600,
    )  # fmt: skip
    recover_seconds: float = setting(
        5.0, unit="s", help="longest wait for the guest to be back at its pace afterwards", group="settle", low=0.1,
        high=600,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_settings(self)
