"""Readers of annotated photographs: one file a format, one in-memory form for all."""

from malaria_cells.data.annotations.annotation_set import AnnotationSet, Picture
from malaria_cells.data.annotations.loading import found_categories, load_annotations
from malaria_cells.data.annotations.locate import PictureList
from malaria_cells.data.annotations.readers import FORMAT_NAMES

__all__ = ["FORMAT_NAMES", "AnnotationSet", "Picture", "PictureList", "found_categories", "load_annotations"]
