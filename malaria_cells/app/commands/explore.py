"""``explore``: summarises a data set in figures and images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import number_of
from malaria_cells.config import load_config
from malaria_cells.data import boxes
from malaria_cells.data.annotations import AnnotationSet, load_annotations
from malaria_cells.data.augment import check_policy
from malaria_cells.data.data_sets import describe_unannotated
from malaria_cells.data.dataset import load_data_set, with_labels
from malaria_cells.data.patch_store import Cropping, build_patch_store
from malaria_cells.data.single_cell_sets import describe_single_cells
from malaria_cells.data.stain import Normalization
from malaria_cells.proposals.learned.annotated_sizes import unusual_cell_sizes
from malaria_cells.proposals.learned.habits import measured
from malaria_cells.training.start_model import with_start

EXAMPLES = 12  # patches of each class
AUGMENTED = 16  # patches drawn with an augmentation policy
MAX_IMAGES = 4  # images drawn with their boxes
NO_BACKGROUND = 0
MAX_ISSUES = 6  # annotation issues printed before the figures; all are printed after them


@dataclass(frozen=True)
class AnnotationRequest:
    """The annotation arguments of a command.

    Attributes:
        source: annotation file or data set folder.
        images: folder of the images; None: the annotation's own folder.
        format_name: name of its format, or ``auto``.
    """

    source: Path
    images: Path | None = None
    format_name: str = "auto"

    def read(self, warn: bool = True) -> AnnotationSet:
        """Read the annotation. The labels are its categories.

        Args:
            warn: whether annotation issues are logged.

        Raises:
            InputError: the files do not exist, or the format is not recognised.
        """
        if not self.source.exists():
            raise InputError(f"{self.source}: no such file or folder")
        if self.images is not None and not self.images.is_dir():
            raise InputError(f"--images {self.images}: no such folder; name the folder that holds the images")
        return load_annotations(self.source, None, root=self.images, annotation_format=self.format_name, warn=warn)


def explore(request: AnnotationRequest | None, config_path: Path | None, overrides: list[str], output: Path, policy: str | None) -> int:
    """Print the figures of a data set and draw its images, boxes and patches.

    Args:
        request: annotation file or data set folder; None: the config's data set.
        config_path: config with data set, labels and cropping; None: the labels are the categories of the annotation.
        overrides: ``key=value`` for the config.
        output: folder for the images.
        policy: augmentation policy to draw on `AUGMENTED` patches, or None.

    Raises:
        InputError: neither request nor config is given, the annotation cannot be read, or no cell is left.
    """
    if policy is not None:
        check_policy(policy)
    size, context, cache, single = (64, 64), 1.25, Path(".cache/patches"), list[str]()
    stain: Normalization = "none"
    if config_path is not None:
        config = load_config(config_path, [*overrides, *([f"train_images={request.source}", "data_sets=null"] if request else [])])
        config = with_start(with_labels(config))
        data = load_data_set(config)
        annotations, single = data.all_images, describe_single_cells(data.single_cells)
        size, context, cache, stain = config.image_size, config.context, Path(config.patch_cache), config.stain_normalization
    elif request is not None:
        annotations = request.read(warn=False)
    else:
        raise InputError("explore: name an annotation file or a data set folder, or a config with --config")
    print("\n".join([*heading(annotations), *summary(annotations), *single]), flush=True)
    if not annotations.class_counts.sum():
        raise InputError("explore: the data set has no cell to draw; the lines above list the annotations that were left out")
    _draw(annotations, Cropping(size, context, NO_BACKGROUND, 0, stain), cache, output, policy)
    return 0


def heading(annotations: AnnotationSet) -> list[str]:
    """The recognised format and the first annotation issues, as lines of text."""
    lines = [f"read as: {annotations.read_as}"] if annotations.read_as else []
    issues = [f"left out or mended: {issue}" for issue in annotations.issues[:MAX_ISSUES]]
    more = len(annotations.issues) - MAX_ISSUES
    return [*lines, *issues, *([f"and {more} more such lines below"] if more > 0 else [])]


def summary(annotations: AnnotationSet) -> list[str]:
    """The figures, as lines of text."""
    counts = annotations.class_counts
    total = int(counts.sum())
    ignored = sum(int(p.ignore.sum()) for p in annotations.images)
    noun = "images labelled as a whole" if annotations.whole else "boxes"
    regions = f", {number_of(ignored, 'ignore region')}" if ignored else ""
    lines = [f"{number_of(len(annotations), 'image')}, {total:,} {noun}{regions}"]
    sizes = {p.size_wh for p in annotations.images}
    first_sizes = ", ".join(f"{w} x {h}" for w, h in sorted(sizes)[:3])
    lines.append(f"image sizes: {first_sizes}" + (f" and {len(sizes) - 3} more" if len(sizes) > 3 else ""))
    parts = {part: sum((p.part or "train") == part for p in annotations.images) for part in ("train", "validation", "test")}
    if any(p.part for p in annotations.images):
        lines.append("the data set's own parts: " + ", ".join(f"{name} {n}" for name, n in parts.items() if n))
    lines += ["", *_class_table(annotations)]
    if not annotations.whole:
        n_boxes = annotations.class_counts_by_image.sum(axis=1)
        empty = int((n_boxes == 0).sum())
        lines += ["", f"boxes per image: median {np.median(n_boxes):g}, maximum {n_boxes.max()}; images without boxes: {empty}"]
        lines += [*_other_magnifications(annotations), *describe_unannotated(annotations), *measured(annotations)]
    if len(annotations.issues) > MAX_ISSUES:
        lines += ["", "left out or mended, all lines:", *(f"  {issue}" for issue in annotations.issues)]
    return lines


def _other_magnifications(annotations: AnnotationSet) -> list[str]:
    reference = annotations.median_cell_size
    unusual = unusual_cell_sizes((annotations.sizing_cells(p) for p in annotations.images), [reference])
    if not len(unusual):
        return []
    low, high = unusual.min(), unusual.max()
    sizes = f"{low:.0f} to {high:.0f}" if round(low) < round(high) else f"{high:.0f}"
    where = f"in {len(unusual):,} of {number_of(len(annotations), 'image')} the median cell has {sizes} px, in the others {reference:.0f}"
    return [f"magnifications: {where}; learned proposals rescale each image by its own cell size"]


def _class_table(annotations: AnnotationSet) -> list[str]:
    names, counts = annotations.labels.names, annotations.class_counts
    width = max(len(n) for n in names)
    all_boxes = np.concatenate([p.cells_xyxy for p in annotations.images])
    ids = np.concatenate([p.cell_class_ids for p in annotations.images])
    lines = [f"{'class':{width}}  {'count':>8}  {'fraction':>8}  {'images':>8}  {'size, median (5 to 95 %)':>26}  {'area, median':>12}"]
    for i, name in enumerate(names):
        class_boxes = all_boxes[ids == i]
        images = int((annotations.class_counts_by_image[:, i] > 0).sum())
        size = area = ""
        if len(class_boxes):
            low, median, high = np.percentile(boxes.cell_sizes(class_boxes), [5, 50, 95])
            size, area = f"{median:.0f} px ({low:.0f} to {high:.0f})", f"{np.median(boxes.areas(class_boxes)):,.0f}"
        fraction = counts[i] / max(counts.sum(), 1)
        lines.append(f"{name:{width}}  {counts[i]:>8,}  {fraction:>8.2%}  {images:>8,}  {size:>26}  {area:>12}")
    return lines


def _draw(annotations: AnnotationSet, cropping: Cropping, cache: Path, output: Path, policy: str | None) -> None:
    from malaria_cells.results.data_set_summary import annotated_images, box_figures
    from malaria_cells.results.sheet import patch_sheet

    store = build_patch_store(annotations, cropping, cache)
    examples = store.examples(np.arange(len(store)), annotations.labels.names, EXAMPLES)
    patch_sheet(examples, f"{len(store):,} examples, a few of each class", output / "patches.png")
    written = ["patches.png"]
    if not annotations.whole:
        annotated_images(annotations, MAX_IMAGES, output / "images.png")
        box_figures(annotations, output / "boxes.png")
        written += ["images.png", "boxes.png"]
    if policy is not None:
        name = f"augmentation_{policy}.png"
        patch_sheet(_augmented(store.patches, store.class_ids, policy), f"augmentation: {policy}", output / name)
        written.append(name)
    print(f"\nimages: {', '.join(str(output / name) for name in written)}")


def _augmented(patches: np.ndarray, class_ids: np.ndarray, policy: str) -> dict[str, np.ndarray]:
    """`AUGMENTED` patches of all classes in turn, without augmentation and as augmented in four epochs; by the name of the row."""
    from malaria_cells.data.augment import make_augmenter, make_batch_policy

    by_class = [np.flatnonzero(class_ids == c) for c in np.unique(class_ids)]
    indices = [class_rows[i % len(class_rows)] for i in range(AUGMENTED) for class_rows in by_class][:AUGMENTED]
    originals = np.ascontiguousarray(patches[indices])
    augment, layers = make_augmenter(policy), make_batch_policy(policy, (originals.shape[1], originals.shape[2]), 0)
    rows = {"original": originals}
    for epoch in range(1, 5):
        augmented = augment(originals, epoch)
        if layers is not None:
            labels = np.eye(AUGMENTED, dtype=np.float32)
            images, _ = layers(_tensor(augmented), _tensor(labels), np.int64(epoch))
            augmented = np.clip(np.asarray(images), 0, 255).astype(np.uint8)
        rows[f"epoch {epoch}"] = augmented
    return rows


def _tensor(array: np.ndarray) -> Any:
    import tensorflow as tf

    return tf.constant(array, dtype=tf.float32)
