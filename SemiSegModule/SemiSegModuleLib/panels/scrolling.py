"""Scrolling in the panel, which Slicer shows in a scroll area of its own."""

from __future__ import annotations

from typing import Any

import qt


def scroll_to(widget: Any) -> None:
    """Bring the upper end of a widget to the top, as far as the scroll area around it allows; none: do nothing."""
    area = widget.parentWidget()
    while area is not None and not isinstance(area, qt.QScrollArea):
        area = area.parentWidget()
    if area is not None:
        area.verticalScrollBar().value = widget.mapTo(area.widget(), qt.QPoint(0, 0)).y()
