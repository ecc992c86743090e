"""Applying a trained network to whole scans: windows, uncertainty, post-processing."""
