"""The cases of the work and the task's labels, kept in the scene, so that saving the scene saves the work.

>>> table = CaseTable(slicer.mrmlScene)                   # doctest: +SKIP
>>> table.labels = settings.data.labels                   # doctest: +SKIP
>>> case = table.add_volume(volume_node)                  # doctest: +SKIP
>>> table.changed.connect(panel.fill)                     # doctest: +SKIP
>>> table.case_changed.connect(panel.update_row)          # doctest: +SKIP

Each case is one hidden vtkMRMLScriptedModuleNode with references to its volume, annotation and prediction; what
concerns all of them (labels, run folder) is in one more. Nothing is kept in Python, so a scene that is loaded, or
whose nodes are deleted, is always shown as it is.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import slicer

from SemiSegLib.config import Label

from ..signal import Signal
from . import segments, sequences
from .candidates import check_annotation, check_volume, why_not
from .case import Case, CaseError
from .identity import new_identifier
from .left_annotations import leave_annotation, left_annotation, rename_left, take_up_annotation
from .merging import tell_apart
from .records import State, labels_from_text, labels_to_text
from .scan import removed_frames, stem_of, was_removed
from .study_nodes import StudyNodes
from .watch import Watch


class CaseTable:
    """The cases of a scene, in the order they were added. Two tables of one scene show the same.

    `changed` and `case_changed` tell of cases, as `Watch` has it; `labels_changed` of the task's labels.
    """

    def __init__(self, scene=None) -> None:
        self.scene = scene or slicer.mrmlScene
        self._nodes = StudyNodes(self.scene)
        self._watch = Watch(self._nodes)
        self.changed, self.case_changed = self._watch.changed, self._watch.case_changed
        self.labels_changed = Signal()
        self.tell_apart()
        self.refresh()

    def close(self) -> None:
        """Stop observing; the cases stay in the scene."""
        self._watch.close()
        self.labels_changed.clear()

    def refresh(self) -> None:
        """Look at everything anew and tell what is different."""
        self._watch.refresh()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Make several changes and look at what they concern once, at the end."""
        with self._watch.paused():
            yield

    # ---- the cases -------------------------------------------------------------------------------------------

    @property
    def cases(self) -> list[Case]:
        """All cases, the excluded ones, too."""
        return self._nodes.cases

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

    def __len__(self) -> int:
        return len(self._nodes.of("case"))

    def in_state(self, *states: State) -> list[Case]:
        """Cases that are in one of the states."""
        return [case for case in self if case.state in states]

    def case_of(self, node) -> Case | None:
        """The case that a volume, annotation, prediction or map belongs to."""
        if node is None:
            return None
        return next((case for case in self if case.refers_to(node)), None)

    def by_id(self, identifier: str) -> Case | None:
        """The case whose node has this ID."""
        return self._nodes.case(identifier)

    def by_file_name(self, file_name: str) -> Case | None:
        """The case whose files have this stem."""
        return next((case for case in self if case.file_name == file_name), None)

    def next(self, case: Case | None, step: int = 1) -> Case | None:
        """The case `step` rows further, round the end; the first when `case` is None or gone."""
        cases = self.cases
        if not cases:
            return None
        return cases[(cases.index(case) + step) % len(cases)] if case in cases else cases[0]

    def add_volume(self, volume_node, annotation=None) -> Case:
        """Add a scan of the scene, perhaps with its human annotation; one that is there already is returned. One that
        was in the table before has its annotation again, which nothing else here would lead to.

        :raises CaseError: not a scalar volume with voxels, or not a 3D scan, or the annotation is that of another scan
        """
        check_volume(volume_node)
        if volume_node.GetID() in sequences.proxies(self.scene) and self.case_of(volume_node) is None:
            raise CaseError(
                f"'{volume_node.GetName()}' shows the frames of a sequence one after the other, so a mask would be of "
                "none of them: add the sequence, or the frame that is shown."
            )
        check_annotation(annotation, volume_node, self.case_of(annotation))
        existing = self.case_of(volume_node)
        case = existing or self._new_case(volume_node)
        if annotation is not None:
            segments.make_voxels(annotation, volume_node)
            if case.annotation is not annotation:
                with self.paused():
                    case.annotation = annotation  # which may be refused, and then the one that is there is as it was
                    case.forget_annotation()
        elif existing is None:
            self._give_annotation_back(case)
        self._watch.look_at(case.id)
        return case

    def _give_annotation_back(self, case: Case) -> None:
        left = left_annotation(case.volume)
        if left is not None and self.case_of(left) is None:
            take_up_annotation(case, left, self.labels)

    def add_volumes(self, nodes: Iterable | None = None) -> list[Case]:
        """Add several scans, and all frames of sequences; without an argument everything of the scene that could be a
        case."""
        chosen = [*self.candidates(), *self.sequence_candidates()] if nodes is None else list(nodes)
        cases: list[Case] = []
        with self.paused():
            for node in chosen:
                frames = node is not None and node.IsA("vtkMRMLSequenceNode")
                cases += self.add_frames(node) if frames else [self.add_volume(node)]
        return list(dict.fromkeys(cases))

    def add_new_volumes(self) -> list[Case]:
        """Add everything of the scene that could be a case and never was one: what somebody took off the table stays
        off it, unless nothing else is there."""
        if not len(self):
            return self.add_volumes()
        with self.paused():
            cases = self.add_volumes(node for node in self.candidates() if not was_removed(node))
            for sequence in self.sequence_candidates():
                former = removed_frames(self.scene, sequences.series_of(sequence))
                cases += self.add_frames(sequence, set(range(sequences.frame_count(sequence))) - former.keys())
        return cases

    def add_frames(self, sequence, numbers: Iterable[int] | None = None) -> list[Case]:
        """Add frames of a sequence of volumes, each as a case of its own, all of one patient; those that are there
        already are returned.

        :param numbers: from 0; None: all of them
        """
        group, count = sequences.series_of(sequence), sequences.frame_count(sequence)
        known = {case.frame: case for case in self if case.group == group}
        former = removed_frames(self.scene, group)
        cases = []
        with self.paused():
            for number in range(count) if numbers is None else numbers:
                if number not in known:
                    known[number] = self.add_volume(former.get(number) or sequences.frame_volume(sequence, number))
                    known[number].group, known[number].frame = group, number
                cases.append(known[number])
        return cases

    def candidates(self) -> list:
        """Volumes of the scene that are not in the table and could be cases: no masks, maps, colours or vectors, and
        none that shows a sequence."""
        taken = {node.GetID() for case in self for node in case.nodes()} | sequences.proxies(self.scene).keys()
        volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode", self.scene)
        return [node for node in volumes if node.GetID() not in taken and not why_not(node)]

    def sequence_candidates(self) -> list:
        """Sequences of the scene with frames that are not in the table."""
        known = Counter(case.group for case in self if case.frame is not None)
        every = sequences.volume_sequences(self.scene)
        return [node for node in every if known[sequences.known_series(node)] < sequences.frame_count(node)]

    def tell_apart(self) -> None:
        """Give cases that came from elsewhere other files than those that were here before."""
        tell_apart(self._nodes)

    def remove(self, case: Case) -> None:
        """Take a case off the table. Its predictions and region go with it; its volume and annotation stay."""
        self.forget_prediction(case)
        self.remove_region(case)
        case.leave_word()
        leave_annotation(case, self.labels)
        self.scene.RemoveNode(case.node)

    def forget_prediction(self, case: Case) -> None:
        """Delete what was predicted for a case: mask, distance maps, probabilities."""
        made = [] if case.prediction is None else [case.prediction]
        with self.paused():
            for node in [*made, *case.all_maps()]:
                self.scene.RemoveNode(node)
            case.confidence = case.dsc = case.quality = None
            case.predicted_parts, case.predicted_at_once = [], True

    def remove_region(self, case: Case) -> None:
        """Delete the region of interest: the whole scan counts again."""
        if case.region is not None:
            self.scene.RemoveNode(case.region)

    # ---- what concerns all cases -----------------------------------------------------------------------------

    @property
    def labels(self) -> list[Label]:
        """The task's labels; every annotation and prediction has segments for these, called as they are."""
        return labels_from_text(self._nodes.read("labels"))

    @labels.setter
    def labels(self, labels: Sequence[Label]) -> None:
        names = {label.name.strip().casefold() for label in labels}
        if len({label.value for label in labels}) < len(labels) or len(names) < len(labels):
            raise CaseError("Labels must differ in value and in name (capital letters make no difference).")
        text = labels_to_text(labels)
        if text != self._nodes.read("labels"):
            before = self.labels
            self._nodes.write("labels", text)
            now = _identities(labels)
            self._renames = [rename for rename in self._renames if now.isdisjoint(_identities(rename[:1]))]
            names = {label.name for label in labels}
            self._words = {model: words for model, words in self._words.items() if names.issuperset(words.values())}
            with self.paused():
                for node in [node for case in self for node in (case.annotation, case.prediction) if node is not None]:
                    segments.follow_labels(node, before, labels)
            self.labels_changed.emit()

    def rename_label(self, value: int, name: str) -> None:
        """Call a label otherwise: it is the same structure, also in annotations whose scan is off the table now.

        :raises CaseError: another label is called so
        """
        then = segments.by_value(self.labels)[value]
        now, words = dataclasses.replace(then, name=name), self._words
        self.labels = [now if label == then else label for label in self.labels]
        rename_left(self.scene, then, name)
        self._renames = [*self._renames, (then, now)]
        self._words = {
            model: {own: name if ours == then.name else ours for own, ours in each.items()}
            for model, each in words.items()
        }

    def agree_on_words(self, model: str, own: Sequence[str]) -> None:
        """This model segments the labels as they are now, under names of its own, in their order."""
        self._words = {**self._words, model: dict(zip(own, (label.name for label in self.labels), strict=True))}

    def in_our_words(self, model: str, labels: Sequence[Label]) -> list[Label]:
        """Labels of this model, called as what they were agreed to be is called now."""
        words = self._words.get(model, {})
        return [dataclasses.replace(label, name=words.get(label.name, label.name)) for label in labels]

    @property
    def _words(self) -> dict[str, dict[str, str]]:
        """By model from outside the study: the label's name here by its own."""
        return json.loads(self._nodes.read("words_of_models") or "{}")

    @_words.setter
    def _words(self, words: Mapping[str, Mapping[str, str]]) -> None:
        if words != self._words:
            self._nodes.write("words_of_models", json.dumps(words))

    def called_now(self, labels: Sequence[Label]) -> list[Label]:
        """Labels of an earlier moment of this study as they are called by now."""
        result = list(labels)
        for then, now in self._renames:
            result = [now if _identities([label]) == _identities([then]) else label for label in result]
        return result

    @property
    def _renames(self) -> list[tuple[Label, Label]]:
        """Each before and after, in their order; what is called again as it was before is no rename any more."""
        labels = labels_from_text(self._nodes.read("renames"))
        return list(zip(labels[::2], labels[1::2], strict=True))

    @_renames.setter
    def _renames(self, renames: Sequence[tuple[Label, Label]]) -> None:
        self._nodes.write("renames", labels_to_text([label for rename in renames for label in rename]))

    def free_label_value(self) -> int:
        """One that no label has, nor had: masks of those that were removed are still there."""
        nodes = [node for case in self for node in (case.annotation, case.prediction) if node is not None]
        used = {label.value for label in self.labels}.union(*(segments.values_of_ids(node) for node in nodes))
        return max(used, default=0) + 1

    @property
    def identifier(self) -> str:
        """Of this study alone, in every scene and on every computer; made when it is first asked for."""
        if not self._nodes.read("identifier"):
            self._nodes.write("identifier", new_identifier())
        return self._nodes.read("identifier")

    @property
    def names_hidden(self) -> bool:
        """Cases are called by their numbers, everywhere in this module and in its files."""
        return self._nodes.read("names_hidden") == "true"

    @names_hidden.setter
    def names_hidden(self, hidden: bool) -> None:
        self._nodes.write("names_hidden", "true" if hidden else "false")
        with self.paused():
            for case in self:
                case.name_hidden = hidden

    @property
    def given_names(self) -> dict[str, str]:
        """The identifier of the case, also of one that is gone, by each name, in small letters, that exported files of
        it have."""
        return json.loads(self._nodes.read("given_names") or "{}")

    @given_names.setter
    def given_names(self, owners: Mapping[str, str]) -> None:
        self._nodes.write("given_names", json.dumps(dict(owners)))

    @property
    def run_folder(self) -> Path | None:
        """The folder of the last training of this scene, to be found again after a restart."""
        text = self._nodes.read("run_folder")
        return Path(text) if text else None

    @run_folder.setter
    def run_folder(self, path: Path | None) -> None:
        self._nodes.write("run_folder", str(path) if path else "")

    @property
    def run_end(self) -> str:
        """The state in which that training was seen to end; '' as long as it was not."""
        return self._nodes.read("run_end")

    @run_end.setter
    def run_end(self, state: str) -> None:
        self._nodes.write("run_end", state)

    @property
    def rounds(self) -> list[dict[str, Any]]:
        """What was annotated for each training, how long that took, and what it brought; see `logic.rounds`."""
        return json.loads(self._nodes.read("rounds") or "[]")

    @rounds.setter
    def rounds(self, rounds: Sequence[dict[str, Any]]) -> None:
        self._nodes.write("rounds", json.dumps(list(rounds)))

    def _new_case(self, volume_node) -> Case:
        number = self._nodes.new_number()
        node = self._nodes.new("case", f"SemiSeg case {number}")
        case = Case.new(node, volume_node, stem_of(number), self.names_hidden)
        self.scene.AddNode(case.node)  # when it is complete: a case without a scan leaves the table at once
        return case


def _identities(labels: Iterable[Label]) -> set[tuple[int, str]]:
    """What tells labels from others; colors may change."""
    return {(label.value, label.name) for label in labels}
