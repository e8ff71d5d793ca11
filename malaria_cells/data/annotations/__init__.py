"""Readers of annotated images: one file a format, one in-memory format for all."""

from malaria_cells.data.annotations.annotation_set import AnnotatedImage, AnnotationSet
from malaria_cells.data.annotations.loading import found_categories, load_annotations
from malaria_cells.data.annotations.locate import ImageList
from malaria_cells.data.annotations.readers import FORMAT_NAMES

__all__ = ["FORMAT_NAMES", "AnnotatedImage", "AnnotationSet", "ImageList", "found_categories", "load_annotations"]
