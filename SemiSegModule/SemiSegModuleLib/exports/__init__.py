"""Results as files to give away: masks, surfaces, a table of volumes, DICOM SEG. Nothing is overwritten silently."""

from .choice import SOURCES, ExportError, FilesExist, empty_ones, of_slices_alone, segmentation_of
from .masks import MASK_FORMATS, export_masks
from .surfaces import SURFACE_FORMATS, export_surfaces, world_surface, write_surface
from .volumes_table import export_volumes_csv

__all__ = [
    "MASK_FORMATS",
    "SOURCES",
    "SURFACE_FORMATS",
    "ExportError",
    "FilesExist",
    "empty_ones",
    "export_masks",
    "export_surfaces",
    "export_volumes_csv",
    "of_slices_alone",
    "segmentation_of",
    "world_surface",
    "write_surface",
]
