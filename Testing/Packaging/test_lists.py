"""The CMake lists, the .ui file, the parameter node and the tree agree; nothing is installed or built for this."""

import ast
import json
import re
import struct
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
MODULE = REPOSITORY / "SemiSegModule"
NOT_INSTALLED = ("Screenshots", "Docs")


def cmake_list(file: Path, name: str) -> list[str]:
    block = re.search(rf"set\({name}\n(.*?)\n\s*\)", file.read_text(encoding="utf-8"), re.DOTALL)
    assert block, f"{file} has no list {name}"
    return [line.strip() for line in block.group(1).splitlines() if line.strip()]


def cmake_value(name: str) -> str:
    return re.search(rf'set\({name} "([^"]*)"\)', (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")).group(1)


def tree(root: Path, folder: str, pattern: str) -> list[str]:
    found = (path.relative_to(root) for path in (root / folder).rglob(pattern) if path.is_file())
    return sorted(path.as_posix() for path in found if "__pycache__" not in path.parts)


def compare(listed: list[str], present: list[str], file: str) -> None:
    missing, gone = sorted(set(present) - set(listed)), sorted(set(listed) - set(present))
    assert not missing, f"add to {file}:\n" + "\n".join(f"  {name}" for name in missing)
    assert not gone, f"remove from {file}:\n" + "\n".join(f"  {name}" for name in gone)
    assert len(set(listed)) == len(listed), f"{file} lists a file twice"
    assert listed == sorted(listed), f"sort the list in {file}"


def test_every_file_of_the_library_is_listed():
    listed = cmake_list(REPOSITORY / "CMakeLists.txt", "SEMISEG_LIBRARY_SCRIPTS")
    compare(listed, tree(REPOSITORY, "SemiSegLib", "*.py"), "CMakeLists.txt")


def test_every_package_is_in_a_wheel():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read pyproject.toml by itself")
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    listed = settings["packages"]
    folders = {Path(file).parent for file in tree(REPOSITORY, "SemiSegLib", "*.py")}
    present = {".".join(folder.parts) for folder in folders} | {"SemiSegLib.Resources.Models"}
    assert set(listed) == present
    data = {Path(file).parent for file in tree(REPOSITORY, "SemiSegLib", "*") if not file.endswith(".py")}
    assert {".".join(folder.parts) for folder in data} <= set(settings["package-data"])


def test_every_resource_is_listed():
    present = [name for name in tree(REPOSITORY, "Resources", "*") if name.split("/")[1] not in NOT_INSTALLED]
    present += [name for name in tree(REPOSITORY, "SemiSegLib", "*") if not name.endswith(".py")]
    compare(cmake_list(REPOSITORY / "CMakeLists.txt", "SEMISEG_RESOURCES"), present, "CMakeLists.txt")


def test_every_file_of_the_module_is_listed():
    listed = cmake_list(MODULE / "CMakeLists.txt", "MODULE_PYTHON_SCRIPTS")
    assert listed[0] == "${MODULE_NAME}.py"
    compare(listed[1:], tree(MODULE, "SemiSegModuleLib", "*.py"), "SemiSegModule/CMakeLists.txt")


def test_lists_stay_below_their_folder():
    for file, name in ((REPOSITORY, "SEMISEG_LIBRARY_SCRIPTS"), (MODULE, "MODULE_PYTHON_SCRIPTS")):
        for entry in cmake_list(file / "CMakeLists.txt", name):
            assert ".." not in entry
            assert not entry.startswith("/")


# ---- .ui, parameter node, code -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ui() -> ET.Element:
    return ET.parse(REPOSITORY / "Resources" / "UI" / "SemiSegModule.ui").getroot()


def widget_names(ui: ET.Element) -> set[str]:
    return {widget.get("name") for widget in ui.iter("widget")}


def parameter_types() -> dict[str, str]:
    module = ast.parse((MODULE / "SemiSegModule.py").read_text(encoding="utf-8"))
    node = next(n for n in module.body if getattr(n, "name", "") == "SemiSegModuleParameterNode")
    fields = (field for field in node.body if isinstance(field, ast.AnnAssign))
    return {field.target.id: ast.unparse(field.annotation) for field in fields}


WIDGETS_OF_TYPES = {  # as Slicer's guiConnectors.py binds them, without those that move the cursor while typing
    "bool": ("QCheckBox",),
    "str": ("QLineEdit",),
    "int": ("QSpinBox",),
    "float": ("QDoubleSpinBox", "ctkSliderWidget"),
    "Path": (),
    "Opacity": ("ctkSliderWidget",),
}


def test_bound_widgets_and_parameters_fit(ui):
    types = parameter_types()
    for widget in ui.iter("widget"):
        bound = widget.find("property[@name='SlicerParameterName']/string")
        if bound is None:
            continue
        assert bound.text in types, f"{widget.get('name')} names the unknown parameter {bound.text}"
        kind = re.sub(r"Annotated\[(\w+),.*", r"\1", types[bound.text])
        assert widget.get("class") in WIDGETS_OF_TYPES.get(kind, ("QComboBox",)), widget.get("name")


def test_every_parameter_but_those_of_the_code_has_a_widget(ui):
    bound = {p.find("string").text for p in ui.iter("property") if p.get("name") == "SlicerParameterName"}
    own_fields = {"studyFolder", "exportFolder", "extraSettings"}  # panels/fields.py
    assert set(parameter_types()) - bound == {"currentCase", "modelFile", "proposedExportFolder"} | own_fields


def test_every_widget_that_the_code_names_exists(ui):
    for file in sorted((MODULE / "SemiSegModuleLib").rglob("*.py")):
        for name in re.findall(r"\bui\.(\w+)", file.read_text(encoding="utf-8")):
            assert name in widget_names(ui), f"{file.name} uses {name}, which the .ui file lacks"


def test_every_button_is_used(ui):
    code = "".join(file.read_text(encoding="utf-8") for file in (MODULE / "SemiSegModuleLib").rglob("*.py"))
    for widget in ui.iter("widget"):
        if widget.get("class") in ("QPushButton", "QCheckBox", "QComboBox", "QTableWidget"):
            bound = widget.find("property[@name='SlicerParameterName']") is not None
            assert bound or f"ui.{widget.get('name')}" in code, f"{widget.get('name')} does nothing"


def test_every_button_explains_itself(ui):
    for widget in ui.iter("widget"):
        if widget.get("class") in ("QPushButton", "QCheckBox", "QComboBox", "QSpinBox", "QLineEdit"):
            assert widget.find("property[@name='toolTip']") is not None, widget.get("name")


def test_names_in_the_ui_are_unique(ui):
    names = [widget.get("name") for widget in ui.iter("widget")]
    assert len(names) == len(set(names))


def test_scene_reaches_every_scene_widget(ui):
    reached = {connection.findtext("receiver") for connection in ui.iter("connection")}
    wanted = {w.get("name") for w in ui.iter("widget") if w.get("class").startswith("qMRML")}
    assert wanted <= reached


def test_every_choice_of_nodes_says_which(ui):
    for widget in ui.iter("widget"):
        if widget.get("class") == "qMRMLNodeComboBox":
            assert widget.find("property[@name='nodeTypes']/stringlist/string") is not None, widget.get("name")


# ---- documentation -------------------------------------------------------------------------------------------

WORDS_OF_SLICER = {  # menus, modules and sections that the documentation names beside the panel's own words
    "Edit", "Application Settings", "Modules", "Additional module paths", "File", "Save", "Close Scene", "SemiSeg",
    "Segmentation", "Reload and Test",
}  # fmt: skip


def words_of_the_panel(ui: ET.Element) -> str:
    shown = [string.text or "" for string in ui.iter("string")]
    for file in MODULE.rglob("*.py"):
        constants = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        shown += [node.value for node in constants if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return re.sub(r"\{[^{}]*\}", "…", "\n".join(shown)).casefold()


@pytest.mark.parametrize("name", ["README.md", "Resources/Docs/ManualChecklist.md"])
def test_the_documentation_uses_the_words_of_the_panel(ui, name):
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    if name == "README.md":
        text = text[text.index("**Tutorial**") : text.index("## Methods and measured results")]
    emphasised = re.findall(r"(?<![*\w])\*([^*]+)\*(?!\*)", " ".join(text.split()))
    phrases = {part.strip().rstrip(".") for phrase in emphasised for part in phrase.split(", ")}
    panel = words_of_the_panel(ui)
    assert len(phrases) > 10
    assert [p for p in sorted(phrases - WORDS_OF_SLICER) if p.casefold() not in panel] == []


# ---- what the Extensions Index reads -------------------------------------------------------------------------


def test_index_entry_and_cmake_agree():
    entry = json.loads((REPOSITORY / "SemiSeg.json").read_text(encoding="utf-8"))
    known = {"$schema", "category", "scm_url", "scm_revision", "build_dependencies", "build_subdirectory", "tier"}
    assert {"$schema", "category", "scm_url"} <= set(entry) <= known  # schema 1.0.2 allows no others that we need
    assert entry["$schema"].endswith("slicer-extension-catalog-entry-schema-v1.0.2.json#")
    assert entry["scm_url"] == cmake_value("EXTENSION_HOMEPAGE") + ".git"
    assert entry["build_dependencies"] == cmake_value("EXTENSION_DEPENDS").split()
    assert entry["tier"] in (1, 2, 3, 4, 5)
    assert "project(SemiSeg)" in (REPOSITORY / "CMakeLists.txt").read_text(
        encoding="utf-8"
    )  # the name of the .json file


def test_pictures_that_the_index_shows_exist():
    addresses = [cmake_value("EXTENSION_ICONURL"), *cmake_value("EXTENSION_SCREENSHOTURLS").split()]
    for address in addresses:
        path = address.split("/main/", 1)[1]
        assert (REPOSITORY / path).is_file(), path


def test_icon_has_the_size_that_the_index_asks_for():
    header = (REPOSITORY / "Resources" / "Icons" / "SemiSegModule.png").read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", header[16:24]) == (128, 128)


def test_requirements_are_those_of_the_library():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read pyproject.toml by itself")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    lines = (REPOSITORY / "Resources" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    listed = {line for line in lines if line and not line.startswith("#")}
    brought_otherwise = {"torch", "numpy", "scipy", "SimpleITK"}  # the PyTorch extension, Slicer itself
    wanted = {line for line in project if re.split(r"[<>=]", line)[0] not in brought_otherwise}
    assert wanted <= listed
    assert listed - wanted <= {"filelock>=3.12"}  # comes with torch; Slicer's process needs it as well
