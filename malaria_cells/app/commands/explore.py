"""``explore``: what a data set holds, in figures and images."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import number_of
from malaria_cells.config import load_config
from malaria_cells.data import boxes
from malaria_cells.data.annotations import AnnotationSet, load_annotations
from malaria_cells.data.augment import check_policy
from malaria_cells.data.data_sets import said_of_unannotated
from malaria_cells.data.dataset import load_data_set, with_labels
from malaria_cells.data.patches import Cropping, build_patch_store
from malaria_cells.data.single_cell_sets import said_of_single_cells
from malaria_cells.data.stain import Normalization
from malaria_cells.proposals.learned.habits import measured
from malaria_cells.proposals.learned.scale import unusual_cell_sizes
from malaria_cells.training.start_model import with_start

EXAMPLES = 12  # patches of each class
AUGMENTED = 16  # patches that a policy is shown on
SHOWN_IMAGES = 4
NO_BACKGROUND = 0
MOST_LINES = 6  # of what was left out or mended, in front of the figures; the others follow behind them


@dataclass(frozen=True)
class AnnotationRequest:
    """An annotation as the command line names it.

    Attributes:
        source: annotation file or data set folder.
        images: folder of the images; None: the annotation's own folder.
        format_name: name of its format, or ``auto``.
    """

    source: Path
    images: Path | None = None
    format_name: str = "auto"

    def read(self, warn: bool = True) -> AnnotationSet:
        """Read it; the labels are the categories found.

        Args:
            warn: whether what was left out or mended is logged.

        Raises:
            InputError: nothing known is there.
        """
        if not self.source.exists():
            raise InputError(f"{self.source}: no such file or folder")
        if self.images is not None and not self.images.is_dir():
            raise InputError(f"--images {self.images}: no such folder; name the one that the images are in")
        return load_annotations(self.source, None, root=self.images, annotation_format=self.format_name, warn=warn)


def explore(request: AnnotationRequest | None, config_path: Path | None, overrides: list[str], output: Path, policy: str | None) -> int:
    """Print what a data set holds and draw it.

    Args:
        request: annotation file or data set folder; None: as the config says.
        config_path: config to take data set, labels and cropping from; None: labels are the categories found.
        overrides: ``key=value`` for the config.
        output: folder for the images.
        policy: augmentation to show on sixteen patches, or None.

    Raises:
        InputError: neither source nor config, or whatever the readers find wrong.
    """
    if policy is not None:
        check_policy(policy)
    if request is None and config_path is None:
        raise InputError("explore: name an annotation file or a data set folder, or a config with --config")
    size, context, cache, single = (64, 64), 1.25, Path(".cache/patches"), list[str]()
    stain: Normalization = "none"
    if config_path is not None:
        config = load_config(config_path, [*overrides, *([f"train_images={request.source}", "data_sets=null"] if request else [])])
        config = with_start(with_labels(config))
        data = load_data_set(config)
        annotations, single = data.all_images, said_of_single_cells(data.single_cells)
        size, context, cache, stain = config.image_size, config.context, Path(config.patch_cache), config.stain_normalization
    else:
        annotations = request.read(warn=False)  # type: ignore[union-attr]
    print("\n".join([*heading(annotations), *summary(annotations), *single]), flush=True)
    if not annotations.class_counts.sum():
        raise InputError("explore: no cell is left that could be drawn; the lines above say what was left out")
    _draw(annotations, Cropping(size, context, NO_BACKGROUND, 0, stain), cache, output, policy)
    return 0


def heading(annotations: AnnotationSet) -> list[str]:
    """What the folder was taken for, and what was left out or mended, as lines of text: the first that a person sees."""
    lines = [f"read as: {annotations.read_as}"] if annotations.read_as else []
    told = [f"left out or mended: {line}" for line in annotations.issues[:MOST_LINES]]
    more = len(annotations.issues) - MOST_LINES
    return [*lines, *told, *([f"and {more} more such lines below"] if more > 0 else [])]


def summary(annotations: AnnotationSet) -> list[str]:
    """The figures, as lines of text."""
    counts = annotations.class_counts
    total = int(counts.sum())
    ignored = sum(int(p.ignore.sum()) for p in annotations.images)
    what = "images labelled as a whole" if annotations.whole else "boxes"
    regions = f", {number_of(ignored, 'ignore region')}" if ignored else ""
    lines = [f"{number_of(len(annotations), 'image')}, {total:,} {what}{regions}"]
    sizes = {p.size_wh for p in annotations.images}
    shown = ", ".join(f"{w} x {h}" for w, h in sorted(sizes)[:3])
    lines.append(f"image sizes: {shown}" + (f" and {len(sizes) - 3} more" if len(sizes) > 3 else ""))
    parts = {part: sum((p.part or "train") == part for p in annotations.images) for part in ("train", "validation", "test")}
    if any(p.part for p in annotations.images):
        lines.append("the data set's own parts: " + ", ".join(f"{name} {n}" for name, n in parts.items() if n))
    lines += ["", *_class_table(annotations)]
    if not annotations.whole:
        each = annotations.class_counts_by_image.sum(axis=1)
        lines += ["", f"boxes an image: median {np.median(each):g}, most {each.max()}, images without any {int((each == 0).sum())}"]
        lines += [*_other_magnifications(annotations), *said_of_unannotated(annotations), *measured(annotations)]
    if len(annotations.issues) > MOST_LINES:
        lines += ["", "left out or mended, all lines:", *(f"  {line}" for line in annotations.issues)]
    return lines


def _other_magnifications(annotations: AnnotationSet) -> list[str]:
    usual = annotations.median_cell_size
    other = unusual_cell_sizes((annotations.sizing_cells(p) for p in annotations.images), [usual])
    if not len(other):
        return []
    sizes = f"{other.min():.0f} to {other.max():.0f}" if round(other.min()) < round(other.max()) else f"{other.max():.0f}"
    which = f"in {len(other):,} of {number_of(len(annotations), 'image')} the median cell has {sizes} px, in the others {usual:.0f}"
    return [f"magnifications: {which}; learned proposals are shown each image in its own size"]


def _class_table(annotations: AnnotationSet) -> list[str]:
    names, counts = annotations.labels.names, annotations.class_counts
    width = max(len(n) for n in names)
    every = np.concatenate([p.cells_xyxy for p in annotations.images])
    ids = np.concatenate([p.cell_class_ids for p in annotations.images])
    lines = [f"{'class':{width}}  {'count':>8}  {'fraction':>8}  {'images':>8}  {'size, median (5 to 95 %)':>26}  {'area, median':>12}"]
    for i, name in enumerate(names):
        own = every[ids == i]
        images = int((annotations.class_counts_by_image[:, i] > 0).sum())
        size = area = ""
        if len(own):
            low, middle, high = np.percentile(boxes.cell_sizes(own), [5, 50, 95])
            size, area = f"{middle:.0f} px ({low:.0f} to {high:.0f})", f"{np.median(boxes.areas(own)):,.0f}"
        fraction = counts[i] / max(counts.sum(), 1)
        lines.append(f"{name:{width}}  {counts[i]:>8,}  {fraction:>8.2%}  {images:>8,}  {size:>26}  {area:>12}")
    return lines


def _draw(annotations: AnnotationSet, cropping: Cropping, cache: Path, output: Path, policy: str | None) -> None:
    from malaria_cells.results.data_set_summary import annotated_images, box_figures
    from malaria_cells.results.sheet import patch_sheet

    store = build_patch_store(annotations, cropping, cache)
    shown = store.examples(np.arange(len(store)), annotations.labels.names, EXAMPLES)
    patch_sheet(shown, f"{len(store):,} examples, a few of each class", output / "patches.png")
    written = ["patches.png"]
    if not annotations.whole:
        annotated_images(annotations, SHOWN_IMAGES, output / "images.png")
        box_figures(annotations, output / "boxes.png")
        written += ["images.png", "boxes.png"]
    if policy is not None:
        name = f"augmentation_{policy}.png"
        patch_sheet(_augmented(store.patches, store.class_ids, policy), f"augmentation: {policy}", output / name)
        written.append(name)
    print(f"\nimages: {', '.join(str(output / name) for name in written)}")


def _augmented(patches: np.ndarray, class_ids: np.ndarray, policy: str) -> dict[str, np.ndarray]:
    """Sixteen patches of all classes in turn, as cut and as four epochs of training would show them."""
    from malaria_cells.data.augment import make_augmenter, make_batch_policy

    by_class = [np.flatnonzero(class_ids == c) for c in np.unique(class_ids)]
    turns = [own[i % len(own)] for i in range(AUGMENTED) for own in by_class][:AUGMENTED]
    chosen = np.ascontiguousarray(patches[turns])
    augment, layers = make_augmenter(policy), make_batch_policy(policy, (chosen.shape[1], chosen.shape[2]), 0)
    rows = {"as cut": chosen}
    for number in range(1, 5):
        changed = augment(chosen, number)
        if layers is not None:
            labels = np.eye(AUGMENTED, dtype=np.float32)
            images, _ = layers(_tensor(changed), _tensor(labels))
            changed = np.clip(np.asarray(images), 0, 255).astype(np.uint8)
        rows[f"epoch {number}"] = changed
    return rows


def _tensor(array: np.ndarray):  # type: ignore[no-untyped-def]
    import tensorflow as tf

    return tf.constant(array, dtype=tf.float32)
