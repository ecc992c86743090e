"""Sequences of volumes (cine, 4D flow, time series): their frames as volumes of their own, which can be cases.

A sequence keeps its frames in a scene of its own; what the main scene shows of it is a proxy, one node whose voxels
change as the sequence is played. A mask drawn on the proxy would be on every frame and on none, so the proxy is no
scan: each frame becomes a volume node that shares its voxels with the sequence.

>>> for sequence in volume_sequences(scene):                            # doctest: +SKIP
...     node = frame_volume(sequence, 0)
"""

from __future__ import annotations

import slicer

from SemiSegLib.data.frames import frame_name, without_suffix

from .identity import new_identifier
from .nodes import follow, put_beside

_SERIES = "SemiSeg.Series"


def volume_sequences(scene) -> list:
    """The sequences of the scene whose frames are scalar volumes."""
    return [node for node in _nodes(scene, "vtkMRMLSequenceNode") if _is_scan(node.GetNthDataNode(0))]


def proxies(scene) -> dict[str, object]:
    """By the ID of each node that shows the frames of a sequence of volumes one after the other, that sequence."""
    found = {}
    for browser in _nodes(scene, "vtkMRMLSequenceBrowserNode"):
        for sequence in volume_sequences(scene):
            proxy = browser.GetProxyNode(sequence)
            if proxy is not None:
                found[proxy.GetID()] = sequence
    return found


def series_of(sequence) -> str:
    """Of this sequence alone; made when it is first asked for, and kept with it in the scene."""
    if not known_series(sequence):
        sequence.SetAttribute(_SERIES, new_identifier())
    return known_series(sequence)


def known_series(sequence) -> str:
    """The same, '' as long as nobody has asked for it."""
    return sequence.GetAttribute(_SERIES) or ""


def frame_count(sequence) -> int:
    """How many frames there are."""
    return sequence.GetNumberOfDataNodes()


def shown_frame(sequence) -> int | None:
    """The number, from 0, of the frame that is shown now; None where nothing shows the sequence."""
    for browser in _nodes(sequence.GetScene(), "vtkMRMLSequenceBrowserNode"):
        if browser.IsSynchronizedSequenceNode(sequence, True):
            item = browser.GetSelectedItemNumber()
            return item if 0 <= item < frame_count(sequence) else None
    return None


def frame_volume(sequence, number: int):
    """A new volume node of one frame, in the place of what shows the sequence; its voxels are the sequence's own."""
    source = sequence.GetNthDataNode(number)
    scene = sequence.GetScene()
    name = frame_name(without_suffix(sequence.GetName()), number, frame_count(sequence))
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    node.CopyOrientation(source)
    node.SetAndObserveImageData(source.GetImageData())
    node.CreateDefaultDisplayNodes()
    proxy = next((scene.GetNodeByID(key) for key, of in proxies(scene).items() if of is sequence), None)
    if proxy is not None and not _moves(proxy.GetParentTransformNode()):
        follow(node, proxy.GetParentTransformNode())
    for beside in (proxy, sequence):
        put_beside(node, beside) if beside is not None else None
    return node


def _moves(transform) -> bool:
    """The transform is itself a proxy, another one at every frame."""
    browsers = _nodes(transform.GetScene(), "vtkMRMLSequenceBrowserNode") if transform is not None else []
    return any(browser.GetSequenceNode(transform) is not None for browser in browsers)


def _is_scan(node) -> bool:
    if node is None or not node.IsA("vtkMRMLScalarVolumeNode") or node.IsA("vtkMRMLLabelMapVolumeNode"):
        return False
    image = node.GetImageData()
    return image is not None and image.GetNumberOfPoints() > 0 and image.GetNumberOfScalarComponents() == 1


def _nodes(scene, kind: str) -> list:
    return slicer.util.getNodesByClass(kind, scene)
