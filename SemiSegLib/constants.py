"""Numbers that the whole library agrees on; below everything."""

IGNORE = 255  # class index of voxels that nobody annotated
