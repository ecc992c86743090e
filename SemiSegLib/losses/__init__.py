"""Loss functions: pure functions of tensors, computed in single precision, shared by the methods."""

IGNORE = 255  # class index of voxels that nobody annotated
