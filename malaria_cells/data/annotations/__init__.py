"""Readers of annotated images: one module per file format, and one in-memory representation."""

from malaria_cells.data.annotations.annotation_set import AnnotatedImage, AnnotationSet
from malaria_cells.data.annotations.loading import found_categories, load_annotations
from malaria_cells.data.annotations.locate import ImageList

__all__ = ["AnnotatedImage", "AnnotationSet", "ImageList", "found_categories", "load_annotations"]
