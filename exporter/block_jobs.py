"""QEMU's block jobs as samples: how far a disk's mirror is, and how much it is behind (query-block-jobs)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from driver.progress import believed
from exporter.sample import Sample

MOST_JOBS = 16
"""So many jobs of one QEMU are sampled: each is a series of its own."""


def block_job_samples(reply: Any, time_ns: int, role: str) -> list[Sample]:
    """One sample a job; one whose figures cannot be believed is left out (QEMU qapi/block-core.json, BlockJobInfo)."""
    samples = []
    for job in reply[:MOST_JOBS] if isinstance(reply, list) else ():
        if not isinstance(job, Mapping):
            continue
        total, done = believed(job.get("len")), believed(job.get("offset"))
        if isinstance(total, str) or isinstance(done, str):
            continue
        fields: dict[str, float | str] = {
            "total_bytes": total,
            "done_bytes": done,
            "lag_bytes": max(0.0, total - done),
            "ready": float(job.get("ready") is True),
        }
        fields |= {name: word for name in ("type", "status") if isinstance(word := job.get(name), str)}
        samples.append(Sample("block_job", time_ns, fields, {"role": role, "job": str(job.get("device"))[:64]}))
    return samples
