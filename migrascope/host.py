"""Commands about this host and what migrascope knows: doctor, list."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dashboards.tables import comparisons_table, findings_table
from driver.comparison import COMPARISONS, Comparison
from driver.datadir import default_path
from driver.doctor import examine
from migrascope.command import Command
from migrascope.options import add_common_options
from migrascope.output import print_json, print_table
from workload.cache import cache_dir


def _doctor_options(parser: argparse.ArgumentParser) -> None:
    add_common_options(parser)
    parser.add_argument("--qemu", default="qemu-system-x86_64", metavar="BINARY", help="QEMU (default %(default)s)")
    parser.add_argument("--kernel", type=Path, metavar="PATH", help="the guest's kernel (default: found by itself)")


def _doctor(arguments: argparse.Namespace) -> int:
    data = (arguments.data_dir or default_path()).absolute()
    findings = asyncio.run(examine(arguments.qemu, arguments.kernel, data, cache_dir()))
    if arguments.json:
        print_json([asdict(finding) for finding in findings])
    else:
        print_table(findings_table(findings))
    return 0 if all(finding.found for finding in findings if finding.needed) else 1


def _list_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")


def _list(arguments: argparse.Namespace) -> int:
    if arguments.json:
        print_json([_described(comparison) for comparison in COMPARISONS.values()])
    else:
        print_table(comparisons_table(list(COMPARISONS.values())))
    return 0


def _described(comparison: Comparison) -> dict[str, Any]:
    return {
        "name": comparison.name,
        "summary": comparison.summary,
        "varies": comparison.varies,
        "seconds": comparison.seconds,
        "hardware": asdict(comparison.hardware),
        "workload": asdict(comparison.workload),
    }


COMMANDS = (
    Command(
        name="doctor",
        summary="Say what this host can do: each prerequisite, what its absence disables, how to get it.",
        options=_doctor_options,
        action=_doctor,
    ),
    Command(name="list", summary="List the named comparisons.", options=_list_options, action=_list),
)
