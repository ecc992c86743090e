"""Values that the whole library agrees on; below everything."""

IGNORE = 255  # class index of voxels that nobody annotated
IGNORE_LABEL = "ignore"  # what nnU-Net's dataset.json calls them

SPARE_COLORS = (
    (221, 130, 101), (128, 174, 128), (144, 178, 221), (241, 214, 145), (185, 135, 134),
    (111, 184, 210), (216, 101, 79), (183, 156, 220), (183, 214, 211), (255, 250, 160),
)  # fmt: skip
"""For labels that come without colours; our own choice, soft tones as in Slicer's anatomical table."""
