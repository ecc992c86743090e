"""Loss functions: pure functions of tensors, computed in single precision, shared by the methods.

With several ranks they are losses of the global batch, equal on all of them (SemiSegLib.compute.distributed).
"""
