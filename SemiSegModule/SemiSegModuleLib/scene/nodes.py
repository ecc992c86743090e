"""Nodes that belong to a scan: below its transform, beside it in the subject hierarchy."""

from __future__ import annotations

import slicer


def new_segmentation(scene, name: str, volume_node):
    """An empty segmentation of a scan, not drawn until its case is shown: otherwise all would lie over each other."""
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetVisibility(False)
    follow(node, volume_node.GetParentTransformNode())  # first: the grid is told in the frame that the node has then
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
    put_beside(node, volume_node)
    return node


def follow(node, transform_node) -> None:
    node.SetAndObserveTransformNodeID(transform_node.GetID() if transform_node is not None else None)


def put_beside(node, volume_node) -> None:
    """Same patient, study or folder in the subject hierarchy as the volume."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    volume_item = hierarchy.GetItemByDataNode(volume_node) if hierarchy is not None else 0
    if volume_item:
        hierarchy.CreateItem(hierarchy.GetItemParent(volume_item), node)  # moves the item that is there already
