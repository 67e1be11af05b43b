# SPDX-License-Identifier: MIT
"""What the sweep's tests share: a part swept in a variant, and its result in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kernel_paths import PATHS, events
from kernel_target import DEFAULT, Variant, target

from onestack.campaign import Campaign, Part, PartResult
from onestack.elf import Images
from onestack.patch import PatchFault

Plant = Callable[[Images], PatchFault]


def images_of(variant: Variant = DEFAULT) -> Images:
    """The symbols of a build."""
    return Images.load(*target(variant).elfs)


def sweep_all(
    path: str,
    wanted: Sequence[str],
    variant: Variant = DEFAULT,
    *,
    limit: int = 0,
    plant: Plant | None = None,
    cores: int = 1,
) -> list[PartResult]:
    """Strike with each event at each boundary of a path, or at `limit` of them spread over it.

    Of several cores the first is struck, and the others have load. How often it goes round a loop
    may be for them to say, so a later visit need not be reached.
    """
    images = images_of(variant)
    known = events(images)
    faults = (plant(images),) if plant else ()
    parts = [Part(PATHS[path], known[event]) for event in wanted]
    guest = target(variant, *faults, cores=cores)
    campaign = Campaign(guest, parts, variant.labels(cores), limit=limit)
    results = campaign.run()
    unreached = [cell for result in results for cell in result.unreached]
    reasons = [cell.detail for cell in unreached if cores == 1 or cell.boundary.hit == 1]
    assert not reasons, reasons
    return results


def sweep(
    path: str,
    event: str,
    variant: Variant = DEFAULT,
    *,
    limit: int = 0,
    plant: Plant | None = None,
) -> PartResult:
    """The same with one event."""
    [result] = sweep_all(path, [event], variant, limit=limit, plant=plant)
    return result


def told(result: PartResult, images: Images) -> str:
    """The failures, a line each, for a test's message."""
    lines = [f"{result.part.key}: {result.outcomes()}"]
    for cell in result.failures:
        place = images.name(cell.boundary.address)
        lines.append(f"  {place} {cell.boundary.context}: {cell.outcome}: {cell.detail[:300]}")
    return "\n".join(lines)
