"""What is expected of a prediction before anybody looks: DSC with an interval, and where the network is unsure.

>>> load_quality(table, case, entry, model)                             # doctest: +SKIP
>>> case.quality.whole.dsc                                              # doctest: +SKIP
0.88
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import volumes
from .case import Case
from .case_table import CaseTable
from .predictions import show_maps
from .records import Expected, Quality
from .volumes import Place

WHOLE_CASE = 0  # stands for a label's value: the map is of all structures together


def load_quality(
    table: CaseTable, case: Case, entry: Mapping[str, Any], model: Path, place: Place | None = None
) -> None:
    """Keep what `SemiSegLib.quality` says of a case's prediction, and show its uncertainty map if there is one.

    Of a mask with parts that were predicted on their own it says nothing, so nothing is kept then.

    :param entry: of `cases` in the file, or an event "case"
    :param place: where the scan was when it was written for the estimate; None: where it is now
    :raises SemiSegError: the map cannot be read; the figures are then not kept either
    """
    if not case.predicted_at_once:
        return
    images = {WHOLE_CASE: volumes.read_image(Path(entry["uncertainty"]))} if entry.get("uncertainty") else {}
    with table.paused():
        into = (place or Place.of(case.volume)).into_frame_of(case.volume)
        show_maps(table, case, "uncertainty", images, {WHOLE_CASE: ""}, into)
        classes = {name: _expected(part) for name, part in entry["classes"].items()}
        case.quality = Quality(_expected(entry), classes, str(model))


def _expected(figures: Mapping[str, Any]) -> Expected:
    return Expected(figures["expected_dsc"], figures["low"], figures["high"], bool(figures["empty"]))
