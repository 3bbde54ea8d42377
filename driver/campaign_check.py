"""What of a plan cannot run here, found without booting anything."""

from __future__ import annotations

from collections.abc import Sequence

from driver.campaign_cells import Cell
from driver.check import refusal
from driver.facts import binary_facts
from driver.kit import check_fits
from driver.record import Binary
from driver.request import Request
from workload.errors import MigrascopeError


async def refused_cells(cells: Sequence[Cell]) -> dict[str, str]:
    """Map the id of each cell that cannot run here to the reason; each binary is asked once."""
    asked: dict[str, Binary | MigrascopeError] = {}
    refused: dict[str, str] = {}
    for cell in cells:
        request = cell.request
        for binary in (request.source_binary, request.destination_binary or request.source_binary):
            if binary not in asked:
                try:
                    asked[binary] = await binary_facts(binary)
                except MigrascopeError as error:
                    asked[binary] = error
        if reason := await _refusal(request, asked):
            refused[cell.cell] = reason
    return refused


async def _refusal(request: Request, asked: dict[str, Binary | MigrascopeError]) -> str | None:
    found: list[Binary] = []
    for binary in (request.source_binary, request.destination_binary or request.source_binary):
        answer = asked[binary]
        if isinstance(answer, MigrascopeError):
            return str(answer)
        found.append(answer)
    try:
        if reason := await refusal(request.scenario, request.hardware, *found):
            return reason
        check_fits(request.hardware, request.workload)
    except MigrascopeError as error:
        return str(error)
    return None
