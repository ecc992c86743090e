"""The module as Slicer loads it: what it says of itself, sample data, reload, self-test, imports."""

import os
import sys
import types
from pathlib import Path

import pytest


class SampleDataLogic:
    """As Slicer 5.10 has it: categories cannot be registered."""

    def __init__(self):
        self.sources = []

    def registerCustomSampleDataSource(
        self,
        category="Custom",
        sampleName=None,
        uris=None,
        fileNames=None,
        nodeNames=None,
        customDownloader=None,
        thumbnailFileName=None,
        loadFileTypes=None,
        loadFiles=None,
        loadFileProperties={},  # noqa: B006  as in Slicer
        checksums=None,
        loadFileType=None,
    ):
        self.sources.append((category, sampleName, customDownloader))


@pytest.mark.parametrize("version", ["5.10", "5.12"])
def test_sample_data_is_offered_by_every_slicer(opened, monkeypatch, version):
    logic = SampleDataLogic()
    if version == "5.12":
        logic.registerCustomSampleDataCategory = lambda category, title: logic.sources.append((category, title, None))
    monkeypatch.setitem(sys.modules, "SampleData", types.SimpleNamespace(SampleDataLogic=logic))
    monkeypatch.setattr(opened.module.importlib.util, "find_spec", lambda name: name == "SampleData")
    opened.module.registerSampleData()
    names = [name for category, name, _download in logic.sources if category == "SemiSeg"]
    assert names == (["SemiSeg"] if version == "5.12" else []) + [
        "Task02_Heart",
        "Task07_Pancreas",
        "SemiSegSynthetic",
    ]


def test_reloading_loads_the_parts_anew(opened, monkeypatch):
    """Slicer's Reload takes the file of the module alone; what it imports would stay as it was."""
    base = opened.module.ScriptedLoadableModuleWidget
    before = {name: sys.modules[name] for name in sys.modules if name.startswith(("SemiSegModuleLib", "SemiSegLib"))}
    seen = []
    monkeypatch.setattr(base, "onReload", lambda self: seen.append(set(before) & set(sys.modules)), raising=False)
    try:
        opened.widget.onReload()
    finally:
        sys.modules.update(before)
    assert seen == [set()]


def test_self_test_passes(module):
    module.SemiSegModuleTest().runTest()


def test_module_describes_itself(module, tmp_path):
    parent = types.SimpleNamespace(path=module.__file__)
    module.SemiSegModule(parent)
    assert parent.title == "SemiSeg"
    assert parent.categories == ["Segmentation"]
    assert not parent.icon.isNull()


def test_importing_the_module_imports_no_torch(module):
    """In a process of its own: other tests of this one may have imported torch."""
    import subprocess

    folder = Path(__file__).parent
    root = Path(module.__file__).parent
    parts = [".".join(part.relative_to(root).with_suffix("").parts) for part in root.glob("SemiSegModuleLib/**/*.py")]
    code = (
        "import importlib, sys; import pythonqt; pythonqt.install(); import stand_in_widgets as w; w.install();"
        "import stand_in_application as a; a.install(None); import SemiSegModule;"
        f"[importlib.import_module(name) for name in {parts}];"
        "print(sorted({'torch', 'monai', 'safetensors', 'nibabel', 'matplotlib'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(root)])}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, cwd=folder
    )
    assert ran.stdout.strip() == "[]"
