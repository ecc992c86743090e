"""Semi-supervised segmentation of medical images: annotate a few scans, train with all of them."""

__version__ = "0.1.0"
