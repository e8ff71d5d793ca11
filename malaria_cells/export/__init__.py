"""Writes a trained detector in the form of another engine, with an example that runs it without Keras."""

from malaria_cells.export.example import EXAMPLE, runs_alone, write_example
from malaria_cells.export.formats import FITTED, FORMATS, QUANTIZED, export_network

__all__ = ["EXAMPLE", "FITTED", "FORMATS", "QUANTIZED", "export_network", "runs_alone", "write_example"]
