"""What of a plan cannot run here, found without booting anything."""

from __future__ import annotations

from collections.abc import Sequence

from driver.campaign_cells import Cell
from driver.check import refusal
from driver.facts import Binaries
from driver.kit import check_fits
from driver.request import Request
from workload.errors import MigrascopeError


async def refused_cells(cells: Sequence[Cell]) -> dict[str, str]:
    """Map the id of each cell that cannot run here to the reason; each binary is asked once."""
    binaries = Binaries()
    refused: dict[str, str] = {}
    for cell in cells:
        if reason := await _refusal(cell.request, binaries):
            refused[cell.cell] = reason
    return refused


async def _refusal(request: Request, binaries: Binaries) -> str | None:
    try:
        source = await binaries.find(request.source_binary)
        destination = await binaries.find(request.destination_binary or request.source_binary)
        if reason := await refusal(request.scenario, request.hardware, source, destination):
            return reason
        check_fits(request.hardware, request.workload)
    except MigrascopeError as error:
        return str(error)
    return None
