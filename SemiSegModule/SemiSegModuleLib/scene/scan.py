"""Which scan a case is of, and who that is: the names that users see, the patient, the names of files."""

from __future__ import annotations

import uuid
from typing import TypeVar

import slicer

from SemiSegLib.data.frames import patient_of as patient_of_frame

from .node_values import Flag, Reference, Text, WholeNumber, role

Kind = TypeVar("Kind", bound="Scan")
_GROUP, _FRAME = "SemiSeg.Group", "SemiSeg.Frame"  # attributes of a volume whose case has left the table
_REMOVED = "SemiSeg.Removed"  # the same: the volume's own ID, since a copy of it is another scan


class Scan:
    """A scan and whose it is: a view of the node in the scene that keeps this."""

    name_hidden = Flag("name_hidden", "The user sees a number in place of the names of scan and patient.")
    group = Text(
        "group", "The same for all frames of one sequence, or other scans that data says are of one patient; else ''."
    )
    frame = WholeNumber("frame", "The number, from 0, of a frame that was taken out of a sequence of the scene.")
    file_name = Text(
        "file_name",
        "Stem of the case's files, `scan_001`: unique in the scene, fixed once the case is added, and says of nobody "
        "who that is; `scans.csv` beside the files does.",
        once=True,
    )
    volume = Reference("volume", "The scan, a vtkMRMLScalarVolumeNode; None when it was deleted.", once=True)
    _identifier = Text("identifier", "'' in a scene of an earlier version.", once=True)

    def __init__(self, node) -> None:
        self.node = node

    @classmethod
    def new(cls: type[Kind], node, volume, file_name: str, name_hidden: bool) -> Kind:
        """That of a node that knows nothing of a scan yet."""
        scan = cls(node)
        scan.file_name, scan.name_hidden, scan.volume = file_name, name_hidden, volume
        scan._identifier = uuid.uuid4().hex
        scan.group = volume.GetAttribute(_GROUP) or ""  # a copy is of the same patient, too
        frame = "" if _is_copy(volume) else volume.GetAttribute(_FRAME)
        scan.frame = int(frame) if frame else None
        return scan

    def leave_word(self) -> None:
        """The volume says itself of whom and which frame it is: it stays in the scene, and may be added again."""
        self.volume.SetAttribute(_GROUP, self.group)
        self.volume.SetAttribute(_FRAME, "" if self.frame is None else str(self.frame))
        self.volume.SetAttribute(_REMOVED, self.volume.GetID())

    @property
    def id(self) -> str:
        """ID of the case's node in the scene."""
        return self.node.GetID() or ""

    @property
    def identifier(self) -> str:
        """Of this case alone, in every scene and on every computer."""
        if not self._identifier:
            self._identifier = uuid.uuid4().hex
        return self._identifier

    def rename_files(self, number: int) -> None:
        """Another case of the scene has this stem already: take that of another number."""
        self.node.SetParameter("file_name", stem_of(number))

    def renew_identifier(self) -> None:
        """This is a copy of another case of the scene."""
        self.node.SetParameter("identifier", uuid.uuid4().hex)

    @property
    def name(self) -> str:
        """What the user sees: patient, where known, and the name of the volume; a number while names are hidden."""
        return " · ".join(part for part in (self.patient, self.scan_name) if part)

    @property
    def scan_name(self) -> str:
        """The name of the volume (with DICOM that of the series), followed when it is renamed; or the number."""
        if self.name_hidden:
            return f"Scan {self.number}"
        return self.volume.GetName() if self.volume is not None else self.node.GetName()

    @property
    def patient(self) -> str:
        """The patient above the scan in the subject hierarchy, where DICOM loading puts one; '' without one."""
        return patient_of(self.volume) if self.volume is not None and not self.name_hidden else ""

    @property
    def patient_key(self) -> str:
        """Equal for scans of one patient, as far as that is known: by the subject hierarchy, a group, or the name."""
        name = self.volume.GetName() if self.volume is not None else ""
        item = patient_item(self.volume) if self.volume is not None else 0
        named = f"name {patient_of_frame(name)}" if patient_of_frame(name) != name else self.id
        return f"patient {item}" if item else self.group or named

    @property
    def patient_name(self) -> str:
        """Of the patient, or of what the scan is a frame of, or of the scan; the number while names are hidden."""
        return self.patient or (self.scan_name if self.name_hidden else patient_of_frame(self.scan_name))

    @property
    def number(self) -> int:
        """Of the case in its study, from 1, as in `file_name`."""
        digits = self.file_name.rpartition("_")[2]
        return int(digits) if digits.isdigit() else 0


def was_removed(volume) -> bool:
    """Whether this volume, if it has no case, had one that has left the table; a copy of it had none."""
    return bool(volume.GetAttribute(_REMOVED)) and not _is_copy(volume)


def _is_copy(volume) -> bool:
    """It says of itself what another volume has noted."""
    noted = volume.GetAttribute(_REMOVED)
    original = volume.GetScene().GetNodeByID(noted) if noted else volume
    # A scene that is added to another gives other IDs where its own are taken: by a node that has noted nothing.
    return original is not volume and (original is None or bool(original.GetAttribute(_REMOVED)))


def removed_frames(scene, group: str) -> dict[int, object]:
    """By their numbers, the volumes of frames whose cases have left the table."""
    every = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode", scene)
    frames = [node for node in every if node.GetAttribute(_GROUP) == group and node.GetAttribute(_FRAME)]
    return {int(node.GetAttribute(_FRAME)): node for node in frames if not _is_copy(node)}


def stem_of(number: int) -> str:
    """Stem of the files of the case with this number in its study."""
    return f"scan_{number:03d}"


def patient_of(node) -> str:
    """Name of the patient above a node in the subject hierarchy; '' where there is none."""
    above = patient_item(node)
    return _hierarchy(node).GetItemName(above) if above else ""


def shown_name(node) -> str:
    """What a message calls a node: its name, or that of its case while names are hidden."""
    for keeper in slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode", node.GetScene()):
        own = [keeper.GetNodeReferenceID(role(kind)) for kind in ("volume", "annotation", "prediction", "region")]
        if node.GetID() in own and Scan(keeper).name_hidden:
            return Scan(keeper).name
    return node.GetName()


def patient_item(node) -> int:
    """The item of that patient, which two patients of one name do not share; 0 where there is none."""
    hierarchy = _hierarchy(node)
    item = hierarchy.GetItemByDataNode(node) if hierarchy is not None else 0
    level = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMLevelPatient()
    return hierarchy.GetItemAncestorAtLevel(item, level) if item else 0


def _hierarchy(node):
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
