"""Loss functions: pure functions of tensors, computed in single precision, shared by the methods."""
