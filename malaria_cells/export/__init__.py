"""A trained detector in the formats of other engines, with an example that runs it without Keras.

In: a model folder and a format. Out: a folder that the other engine loads.
"""

from malaria_cells.export.example import EXAMPLE, runs_alone, write_example
from malaria_cells.export.formats import export_network, quantized_formats

__all__ = ["EXAMPLE", "export_network", "quantized_formats", "runs_alone", "write_example"]
