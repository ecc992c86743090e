"""A sequence of volumes as loading one makes it: frames in a scene of their own, shown by a proxy in the main one."""

from __future__ import annotations

import slicer


def make_sequence(scene, volumes, name="cine"):
    """A sequence of these volume nodes, which leave the scene."""
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
    for number, volume in enumerate(volumes):
        sequence.SetDataNodeAtValue(volume, str(0.05 * number))
        scene.RemoveNode(volume)
    return sequence


def make_player(scene, sequence):
    """A function that shows a frame of the sequence, by its number, and returns the node that shows it."""
    logic = slicer.vtkSlicerSequencesLogic()
    logic.SetMRMLScene(scene)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())

    def show(number):
        browser.SetSelectedItemNumber(number)
        logic.UpdateProxyNodesFromSequences(browser)
        return browser.GetProxyNode(sequence)

    show(0)
    return show
