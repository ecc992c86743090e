"""The hidden nodes of a scene that keep the work: one for each case, and one for what concerns all of them."""

from __future__ import annotations

import slicer

from .case import ROLE, Case

_ROLES = ("case", "work")


class StudyNodes:
    """Nothing is kept in Python but which nodes these are, as long as no node comes to the scene or goes."""

    def __init__(self, scene) -> None:
        self.scene = scene
        self._every = scene.GetNodes()  # kept: VTK takes a millisecond to hand it out anew
        self._found: dict[str, list] = {}
        self._found_at = -1

    def of(self, role: str) -> list:
        """The nodes that are 'case', by their numbers, or 'work', in the order of the scene."""
        now = self._every.GetMTime()
        if now != self._found_at:
            nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode", self.scene)
            self._found = {each: [node for node in nodes if node.GetAttribute(ROLE) == each] for each in _ROLES}
            self._found["case"].sort(key=lambda node: Case(node).number)  # one that was brought back is a late node
            self._found_at = now
        return list(self._found[role])

    @property
    def cases(self) -> list[Case]:
        """All cases, in the order they were added."""
        return [Case(node) for node in self.of("case")]

    def case(self, identifier: str) -> Case | None:
        """The case whose node has this ID."""
        node = self.scene.GetNodeByID(identifier) if identifier else None
        return Case(node) if node is not None and node.GetAttribute(ROLE) == "case" else None

    @property
    def work(self):
        """What concerns all cases; made when it is first asked for."""
        existing = self.of("work")
        return existing[0] if existing else self.scene.AddNode(self.new("work", "SemiSeg work"))

    def read(self, parameter: str) -> str:
        """A parameter of the work; reading makes no node in a scene that has nothing of SemiSeg."""
        existing = self.of("work")
        return (existing[0].GetParameter(parameter) or "") if existing else ""

    def write(self, parameter: str, text: str) -> None:
        """Set a parameter of the work."""
        self.work.SetParameter(parameter, text)

    def new_number(self) -> int:
        """For the files of a case: one that no case has, nor had: files of those that were removed are still there."""
        number = 1 + max([int(self.read("last_number") or 0), *(case.number for case in self.cases)])
        self.write("last_number", str(number))
        return number

    def renumbered(self) -> None:
        """Cases have other numbers now: whoever looks at this scene orders them anew."""
        self._every.Modified()

    def new(self, role: str, name: str):
        """A node that is not in the scene yet."""
        node = slicer.vtkMRMLScriptedModuleNode()
        node.SetName(self.scene.GenerateUniqueName(name))
        node.SetModuleName(f"SemiSeg.{role}")
        node.SetAttribute(ROLE, role)
        node.SetHideFromEditors(True)
        return node
