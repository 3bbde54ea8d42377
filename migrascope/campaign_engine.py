"""Where `campaign run` makes its runs: the options, and the engine that they ask for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from driver.campaign_executor import JOBS_MOST, Engine, Job, LocalExecutor
from driver.cluster import cluster
from driver.datadir import DataDir
from driver.request import Request
from driver.scheduler import check_address
from migrascope.options import words_of
from workload.errors import BadValueError


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where runs are made."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--jobs", type=int, default=1, metavar="N",
        help=f"make N runs at once on this host, 1 to {JOBS_MOST}: they measure migrations beside each other",
    )  # fmt: skip
    where.add_argument(
        "--scheduler", metavar="ADDRESS",
        help="make runs on the workers of this dask.distributed scheduler (tls://HOST:PORT, tcp:// on loopback)",
    )  # fmt: skip
    parser.add_argument(
        "--on", action="append", default=[], metavar="LABEL",
        help="only on workers with this label (kvm, qemu-VERSION, a resource they were started with); may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--unencrypted", action="store_true", help="a scheduler off loopback may be reached over tcp://"
    )


@asynccontextmanager
async def engine(arguments: argparse.Namespace, data: DataDir) -> AsyncIterator[Engine]:
    """Yield the engine that the options ask for.

    Raises:
        MigrascopeError: the options do not go together, or the cluster cannot be used.
    """
    if arguments.scheduler is None:
        if arguments.on or arguments.unencrypted:
            raise BadValueError("campaign run: --on and --unencrypted are for runs on a cluster; want --scheduler too")
        yield LocalExecutor(run_words, arguments.jobs)
        return
    address = check_address(arguments.scheduler, unencrypted=arguments.unencrypted)
    async with cluster(address, run_words, arguments.on, data) as connected:
        yield connected


def run_words(job: Job) -> list[str]:
    """The command line that makes one run of a campaign; a person may repeat it without its three ids."""
    return request_words(replace(job.request, run=job.run), job.data)


def request_words(request: Request, data: DataDir) -> list[str]:
    """The command line that makes the run of a request with an id."""
    words = [sys.executable, "-m", "migrascope.main", "run", "--json", f"--data-dir={data.path}"]
    words += [f"--run-id={request.run}"]
    words += [f"--campaign={request.campaign}"] * (request.campaign is not None)
    words += [f"--convoy={request.convoy}"] * (request.convoy is not None)
    words += [f"--seat={request.seat}"] * (request.seat is not None)
    words += [f"--comparison={request.comparison}"] * (request.comparison is not None)
    words += [f"--qemu={request.source_binary}"]
    words += [f"--destination-qemu={request.destination_binary}"] * (request.destination_binary is not None)
    words += [f"--destination-host={request.destination_host}"] * (request.destination_host is not None)
    words += [f"--destination-address={request.destination_address}"] * (request.destination_address is not None)
    words += [f"--kernel={request.kernel}"] * (request.kernel is not None)
    words += ["--warm-start"] * request.warm_start
    for value in (request.scenario, request.hardware, request.workload, request.settle, request.sampling):
        words += words_of(value)
    return words
