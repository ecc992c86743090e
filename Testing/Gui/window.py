"""One window of Slicer for tests: a process with a scene of its own that predicts one scan by script.

python window.py SCAN NAME STUDY_FOLDER MODEL OUT     writes the mask that the scene has then, prints where it came from
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "Slicer"), str(HERE.parent.parent / "SemiSegModule")]


def main(scan, name, study, model, out):
    import pythonqt

    qt = pythonqt.install()
    _application = qt.QApplication(["SemiSeg window"])
    import stand_in_application
    import stand_in_widgets

    stand_in_widgets.install()
    stand_in_application.install(None)
    import slicer
    from mrml_application import MrmlApplication

    scene = MrmlApplication()
    slicer.app._logic = scene.logic
    from SemiSegModuleLib.scene import segments, volumes

    from SemiSegModule import SemiSegModuleLogic

    logic = SemiSegModuleLogic()
    logic.getParameterNode().studyFolder = Path(study)
    volume = slicer.modules.volumes.logic().AddArchetypeVolume(scan, name, 0)
    (case,) = logic.addCases([volume])
    process = logic.predict(model=model, wait=True)
    assert process.state == "finished", process.log.tail()
    mask = segments.voxels_on_grid(case.prediction, case.volume, logic.workbench.study.cases.labels)
    volumes.write_image(volumes.world_image(case.volume, mask), Path(out))
    print(json.dumps({"folder": str(process.output), "file_name": case.file_name}))
    logic.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
