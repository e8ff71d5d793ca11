"""Readers of annotated images: one module per file format, and one in-memory representation."""

from malaria_cells.data.annotations.annotation_set import AnnotatedImage, AnnotationSet
from malaria_cells.data.annotations.loading import load_annotations, read_categories
from malaria_cells.data.annotations.locate import ImageList

__all__ = ["AnnotatedImage", "AnnotationSet", "ImageList", "load_annotations", "read_categories"]
