"""What tables say of the annotation that detections are scored by: categories that were ignored, mapped, or not annotated."""

from typing import Any

import supervision as sv

from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.labels import LabelSet
from malaria_cells.evaluation import is_unknown
from malaria_cells.inference.counting import counted_ids


def scored_without(truth: AnnotationSet, labels: LabelSet) -> dict[str, Any]:
    """What `metrics.json` says of the annotation beside the figures: categories ignored or mapped on request, labels not annotated."""
    ignored = [name for name in truth.labels.ignored if name not in labels.ignored]
    said: dict[str, Any] = {"ignored_labels": ignored} if ignored else {}
    unannotated = sorted({i for p in truth.images for i in p.unannotated})
    if unannotated:
        said["unannotated_labels"] = [labels.names[i] for i in unannotated]
    if truth.labels.label_map:
        said["label_map"] = dict(truth.labels.label_map)
    return said


def said_of_labels(images: list[AnnotatedImage], found: list[sv.Detections], labels: LabelSet) -> str:
    """How many detections are of labels that the annotation does not have, and what they count as; an empty text where none is."""
    unannotated = sorted({i for p in images for i in p.unannotated})
    if unannotated:
        unknown = sum(int(is_unknown(d, p, counted_ids(d)).sum()) for p, d in zip(images, found, strict=True))
        names = ", ".join(labels.names[i] for i in unannotated)
        return f"not annotated, so that they are neither right nor wrong where no cell is annotated: {names} ({unknown:,} in all)"
    present = {int(i) for p in images for i in p.cell_class_ids}
    counted = [int(i) for d in found for i in counted_ids(d) if i >= 0 and i not in present]
    if not counted or not present:
        return ""
    names, annotated = (sep.join(labels.names[i] for i in sorted(ids)) for sep, ids in ((", ", set(counted)), (",", present)))
    return (
        f"in no annotation, so that each is a false alarm: {names} ({len(counted):,} in all); "
        f"if nobody looked for such cells, add --annotated-labels '{annotated}'"
    )
