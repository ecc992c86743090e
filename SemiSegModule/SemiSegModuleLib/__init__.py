"""The parts of the SemiSeg module; each can be tested by itself. Nothing here imports torch.

The scene (MRML, no Qt):
    case_table.py          the cases of the work and the task's labels, kept in the scene; `find_run`
    scene_bridge.py        annotations made, cases exported to files, predictions loaded, accepted
    overlays.py            which volume, masks and maps the views show; stepping through cases
    exports.py             masks, surface models and volumes in ml as files to give away
    dicom_seg.py           masks as DICOM SEG, where QuantitativeReporting or highdicom is there
    segments.py            labels of the task <-> segments of a segmentation node
    region.py              regions of interest: a markups box and the voxels of the scan in it
    volumes.py             volume nodes <-> images in world space
    thumbnails.py          a small picture of a case

The processes (no MRML, no Qt):
    training_process.py    a training as a child process: started, watched, stopped, found again
    prediction_process.py  a prediction as a child process
    child_process.py       what both have in common
    failures.py            what went wrong, in words a clinician can act on

    paths.py               where resources, library and the training Python are
    i18n.py                the translation function `_`
"""
