"""Devices, precision and processes: what everything that computes with PyTorch stands on."""
