"""Reports on the annotation that detections are scored by: labels that were ignored, mapped, or not annotated."""

from typing import Any

from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.detections import Detections
from malaria_cells.data.labels import LabelSet
from malaria_cells.evaluation import is_unknown


def scored_without(truth: AnnotationSet, labels: LabelSet) -> dict[str, Any]:
    """Return the keys of ``metrics.json`` on the annotation: labels ignored or mapped on request, and labels not annotated."""
    ignored = [name for name in truth.labels.ignored if name not in labels.ignored]
    content: dict[str, Any] = {"ignored_labels": ignored} if ignored else {}
    unannotated = sorted({i for p in truth.images for i in p.unannotated})
    if unannotated:
        content["unannotated_labels"] = [labels.names[i] for i in unannotated]
    if truth.labels.label_map:
        content["label_map"] = dict(truth.labels.label_map)
    return content


def describe_labels(images: list[AnnotatedImage], detections: list[Detections], labels: LabelSet) -> str:
    """Return a message about detections whose labels the annotation does not have, and how they are scored; empty if there are none."""
    unannotated = sorted({i for p in images for i in p.unannotated})
    if unannotated:
        unknown = sum(int(is_unknown(d, p, d.counted_as).sum()) for p, d in zip(images, detections, strict=True))
        names = ", ".join(labels.names[i] for i in unannotated)
        return f"labels not annotated, so their detections outside annotated cells are not scored: {names} ({unknown:,} in all)"
    present = {int(i) for p in images for i in p.cell_class_ids}
    counted = [int(i) for d in detections for i in d.counted_as if i >= 0 and i not in present]
    if not counted or not present:
        return ""
    names, annotated = (sep.join(labels.names[i] for i in sorted(ids)) for sep, ids in ((", ", set(counted)), (",", present)))
    return (
        f"labels without an annotation, so each detection is a false alarm: {names} ({len(counted):,} in all); "
        f"if the annotators did not label such cells, add --annotated-labels '{annotated}'"
    )
