"""Commands about this host and what migrascope knows: doctor, list."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dashboards.tables import comparisons_table, findings_table
from driver.check_members import refused_members
from driver.comparison import COMPARISONS
from driver.comparison_plan import NOMINAL_PACE, Comparison
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
    parser.add_argument(
        "--qemu", default="qemu-system-x86_64", metavar="BINARY",
        help="say what this QEMU does not support (default %(default)s)",
    )  # fmt: skip


def _list(arguments: argparse.Namespace) -> int:
    refused = asyncio.run(refused_members(COMPARISONS.values(), arguments.qemu))
    if arguments.json:
        print_json([_described(comparison, refused[name]) for name, comparison in COMPARISONS.items()])
    else:
        print_table(comparisons_table(list(COMPARISONS.values()), refused))
    return 0


def _described(comparison: Comparison, refused: Mapping[int, str]) -> dict[str, Any]:
    members = comparison.plan(NOMINAL_PACE).members
    return {
        "name": comparison.name,
        "summary": comparison.summary,
        "varies": comparison.varies,
        "seconds": comparison.seconds,
        "by_pace": comparison.by_pace,
        "members": [
            {
                "scenario": each.scenario.name,
                "workload": each.workload.name,
                "memory_mib": each.hardware.memory_mib,
                "qemu": each.qemu,
                "destination_qemu": each.destination_qemu,
                "unsupported": refused.get(number),
            }
            for number, each in enumerate(members)
        ],
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
