"""The parts of the SemiSeg module; each can be tested by itself. Nothing here imports torch.

    panels/      what is seen: each section shows state and forwards clicks (Qt)
    logic/       what can be done, with or without a panel: studies, trainings, predictions, reviews
    scene/       the work as it stands in the scene, and between the scene and files (MRML, no Qt)
    exports/     results as files to give away
    processes/   child processes: started, watched, stopped, explained (no MRML, no Qt)

    sample_data.py  studies to try SemiSeg with
    paths.py        where resources, library and the training Python are
    i18n.py         the translation function `_`

Imports go from panels to logic, from there to scene and processes, never back.
"""
