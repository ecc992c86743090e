"""Loss functions: pure functions of tensors, computed in single precision, shared by the methods.

With several ranks they are losses of the global batch, equal on all of them (SemiSegLib.training.distributed).
"""

IGNORE = 255  # class index of voxels that nobody annotated
