"""The zoomable, clickable figure of an image, the sheet of cells, and the chart of stages."""

import html

import numpy as np
import plotly.graph_objects as go

from malaria_cells.data.detections import Detections
from malaria_cells.data.labels import LabelSet
from malaria_cells.data.patches import crop_boxes
from malaria_cells.results.document import inlined_image
from malaria_cells.results.overlay import draw_detections
from malaria_cells.results.style import class_colours

MAX_WIDTH = 1600  # pixels, width of the image in the browser; enough to zoom in to a cell
COLUMN_WIDTH = 660  # pixels, width of the image's column on a laptop
MAX_HEIGHT = 900  # pixels, height of the figure
CELL = 150  # pixels, side of a cell in the sheet
CONTEXT = 1.5  # side of the square crop divided by the longer side of the box
EDGE = 6  # pixels of white around a cell in the sheet


def image_figure(pixels: np.ndarray, cells: Detections, labels: LabelSet) -> go.Figure:
    """The image with boxes, and an invisible marker on each cell that has a tooltip and can be clicked.

    Args:
        pixels: uint8 RGB (H, W, 3).
        cells: cells to draw; `class_id` is the counted label, and `index` is returned by a click.
        labels: the classes.
    """
    height, width = pixels.shape[:2]
    scene = draw_detections(pixels, cells, labels)
    source = inlined_image(scene, MAX_WIDTH, "").source
    figure = go.Figure()
    figure.add_layout_image(source=source, xref="x", yref="y", x=0, y=0, sizex=width, sizey=height, sizing="stretch", layer="below")
    centre = (cells.xyxy[:, :2] + cells.xyxy[:, 2:]) / 2
    texts = [f"{html.escape(labels.names[c])} {s:.2f}" for c, s in zip(cells.class_id, cells.confidence, strict=True)]
    figure.add_trace(
        go.Scatter(
            x=centre[:, 0],
            y=centre[:, 1],
            mode="markers",
            marker={"size": 22, "opacity": 0.01, "color": "#000000"},
            text=texts,
            hovertemplate="%{text}<extra></extra>",
            customdata=cells.index,
        )
    )
    figure_height = round(min(COLUMN_WIDTH * height / width, MAX_HEIGHT))
    # A constant uirevision keeps the zoom when a threshold redraws the boxes.
    figure.update_layout(margin={"l": 0, "r": 0, "t": 0, "b": 0}, showlegend=False, height=figure_height)
    figure.update_layout(dragmode="pan", hovermode="closest", uirevision="image")
    figure.update_xaxes(visible=False, range=[0, width], constrain="domain")
    figure.update_yaxes(visible=False, range=[height, 0], scaleanchor="x", constrain="domain", constraintoward="top")
    return figure


def stage_mix(by_label: np.ndarray, labels: LabelSet) -> go.Figure:
    """Bar chart of the infected cells by stage, or of all cells if no label is infected."""
    is_drawn = labels.is_infected if labels.is_infected.any() else np.ones(len(labels), dtype=bool)
    colours = class_colours(labels, labels.is_healthy_red_cell)
    drawn = [name for name, is_in in zip(labels.names, is_drawn, strict=True) if is_in]
    names = [html.escape(name) for name in drawn]  # Plotly interprets some HTML tags
    counts = by_label[is_drawn].tolist()
    bar_colours = [colours[name] for name in drawn]
    figure = go.Figure(go.Bar(x=counts, y=names, orientation="h", marker_color=bar_colours, text=counts, textposition="auto"))
    figure.update_layout(margin={"l": 0, "r": 10, "t": 0, "b": 0}, height=60 + 34 * len(names))
    figure.update_yaxes(autorange="reversed", type="category")  # a class named "1" must not be read as a number
    figure.update_xaxes(title="cells", rangemode="tozero", tickformat=",d", **({"dtick": 1} if max(counts) < 8 else {}))
    return figure


def cell_images(pixels: np.ndarray, boxes_xyxy: np.ndarray) -> np.ndarray:
    """Cells with their surroundings and a white edge: uint8 RGB (n, `CELL`, `CELL`, 3)."""
    inner = CELL - 2 * EDGE
    patches = crop_boxes(pixels, boxes_xyxy, CONTEXT, (inner, inner))
    return np.pad(patches, ((0, 0), (EDGE, EDGE), (EDGE, EDGE), (0, 0)), constant_values=255)
