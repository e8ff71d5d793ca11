"""Draws detections on the image; infected cells stand out."""

import cv2
import numpy as np

from malaria_cells.data.detections import Detections
from malaria_cells.data.labels import LabelSet
from malaria_cells.results.style import class_colours, short

# Names; up to this many are moved apart so that they do not overlap, more are only kept inside the image. supervision compares every
# name with every other one a hundred times, which takes 38 seconds for 2,000 names.
MAX_SPREAD = 100


def draw_detections(
    image: np.ndarray,
    detections: Detections,
    labels: LabelSet,
    quiet: np.ndarray | None = None,
    with_scores: bool = True,
    *,
    unit: float | None = None,
) -> np.ndarray:
    """Draw the boxes of counted detections on a copy of an image.

    Cells of quiet classes, by default healthy red cells, get a thin grey box; all others get a thick coloured box with name and score.
    Line widths are proportional to the size of the image.

    Args:
        image: uint8 RGB (H, W, 3).
        detections: the cells; their classes are `counted_as`.
        labels: the classes.
        quiet: bool (n_labels,), the quiet classes; None: healthy red cells.
        with_scores: whether the score stands behind the name; annotated cells have none.
        unit: width of a thin line in pixels; None: by the size of the image. Where it is given, `image` may be a part of an image: names
            are neither moved apart nor into it, so that they continue in the next part.

    Returns:
        uint8 RGB (H, W, 3).
    """
    import supervision as sv  # slow to import: half a second, while networks run

    scene = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)  # supervision draws in BGR order, as OpenCV
    quiet_classes = labels.is_healthy_red_cell if quiet is None else quiet
    palette = sv.ColorPalette.from_hex(list(class_colours(labels, quiet_classes).values()))
    is_whole = unit is None
    unit = max(image.shape[0], image.shape[1]) / 1280 if unit is None else unit
    counted = detections[detections.counted_as >= 0]
    cells = Detections.from_boxes(counted.xyxy, counted.counted_as, counted.confidence)
    is_quiet = quiet_classes[cells.class_id]
    thin = sv.BoxAnnotator(color=palette, thickness=max(round(unit), 1))
    thick = sv.BoxAnnotator(color=palette, thickness=max(round(3 * unit), 2))
    tag = sv.LabelAnnotator(
        color=palette,
        text_scale=0.5 * unit,
        text_thickness=max(round(unit), 1),
        text_padding=max(round(4 * unit), 2),
        smart_position=is_whole,  # moves names apart and into the image
    )
    scene = thin.annotate(scene, cells[is_quiet].to_supervision())
    loud = cells[~is_quiet]
    scene = thick.annotate(scene, loud.to_supervision())
    if len(loud):
        figures = [f" {s:.2f}" if with_scores else "" for s in loud.confidence]
        texts = [f"{short(labels.names[c])}{f}" for c, f in zip(loud.class_id, figures, strict=True)]
        step = len(loud) if len(loud) <= MAX_SPREAD else 1
        for i in range(0, len(loud), step):
            scene = tag.annotate(scene, loud[i : i + step].to_supervision(), labels=texts[i : i + step])
    return cv2.cvtColor(scene, cv2.COLOR_BGR2RGB)
