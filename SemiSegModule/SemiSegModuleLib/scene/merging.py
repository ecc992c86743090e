"""Cases of several scenes in one: told apart by their files, and by what their segments stand for."""

from __future__ import annotations

from collections.abc import Sequence

from SemiSegLib.config import Label

from . import segments
from .case import Case
from .records import labels_from_text
from .study_nodes import StudyNodes


class Merging:
    """A scene that is loaded or added brings cases along: into the study that was here before, or in place of one that
    has none."""

    def __init__(self, nodes: StudyNodes) -> None:
        self._nodes = nodes
        self._giving_way: list[str] = []
        self._here_already: set[str] = set()  # IDs of cases and work before

    def begin(self) -> None:
        """Before the other scene is read."""
        works, cases = ([node.GetID() for node in self._nodes.of(role)] for role in ("work", "case"))
        self._giving_way = [] if cases else works
        self._here_already = {*works, *cases}

    def end(self) -> None:
        """What it brought is here."""
        if len(self._nodes.of("work")) > len(self._giving_way):
            for node in [self._nodes.scene.GetNodeByID(identifier) for identifier in self._giving_way]:
                self._nodes.scene.RemoveNode(node) if node is not None else None
        self._giving_way = []
        tell_apart(self._nodes)
        brought = [node for node in self._nodes.of("work") if node.GetID() not in self._here_already]
        if brought and brought[-1] is not self._nodes.work:
            theirs, ours = (labels_from_text(node.GetParameter("labels")) for node in (brought[-1], self._nodes.work))
            for case in [case for case in self._nodes.cases if case.id not in self._here_already]:
                keep_meaning(case, theirs, ours)


def tell_apart(nodes: StudyNodes) -> None:
    """Give cases other stems and identifiers where earlier ones have theirs: every study has a scan_001."""
    stems: set[str] = set()
    identifiers: set[str] = set()
    for case in nodes.cases:
        if case.file_name in stems:
            case.rename_files(nodes.new_number())
            nodes.renumbered()
        if case.identifier in identifiers:  # the same scene twice
            case.renew_identifier()
        stems.add(case.file_name)
        identifiers.add(case.identifier)


def keep_meaning(case: Case, theirs: Sequence[Label], ours: Sequence[Label]) -> None:
    """Segments of a study whose labels were others stand for what they are called, not for our label of that value."""
    other = of_other_meaning(theirs, ours)
    dsc, accepted, edited, began = case.dsc, case.accepted, case.prediction_edited, case.began_as_this_prediction
    for node in (case.annotation, case.prediction):
        if node is not None:
            segments.take_ids_away(node, other)
    case.dsc = dsc
    if accepted:
        case.remember_accepted(True)
    if began:
        case.remember_beginning()
    if case.prediction is not None and not edited:
        case.remember_prediction()


def of_other_meaning(theirs: Sequence[Label], ours: Sequence[Label]) -> list[Label]:
    """Those of their labels whose values stand for something else among ours."""
    names = segments.by_value(ours)
    return [label for label in theirs if label.value in names and not _same(label.name, names[label.value].name)]


def _same(first: str, second: str) -> bool:
    return first.strip().casefold() == second.strip().casefold()
