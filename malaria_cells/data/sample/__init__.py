"""Renders labelled thin blood smears, for trials and tests without a download."""

from malaria_cells.data.sample.rendered_set import write_sample
from malaria_cells.data.sample.smear import LABELS, Slide, Smear, render_smear

__all__ = ["LABELS", "Slide", "Smear", "render_smear", "write_sample"]
