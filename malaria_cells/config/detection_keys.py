"""Keys of detection: kind of detector, proposals, suppression and test-time augmentation."""

from typing import Annotated, Literal

from pydantic import Field

from malaria_cells.config.values import Count, Fraction, HeightWidth, Settings


class ScanSettings(Settings):
    """Test-time augmentation of whole images: `scan` overlapping crops, each augmented `runs` times."""

    runs: Count
    scan: Count


class Anchors(Settings):
    """Anchor boxes of RetinaNet: one size in pixels per pyramid level (strides 8 to 128), in all scales and aspect ratios."""

    sizes: list[Annotated[float, Field(gt=0, le=100_000)]] = Field(
        default_factory=lambda: [32.0, 64.0, 128.0, 256.0, 512.0], min_length=5, max_length=5
    )
    scales: list[Annotated[float, Field(gt=0, le=1000)]] = Field(default_factory=lambda: [1.0, 1.26, 1.59], min_length=1)
    ratios: list[Annotated[float, Field(gt=0, le=1000)]] = Field(default_factory=lambda: [0.75, 1.0, 1.33], min_length=1)


class DetectionKeys(Settings):
    """Keys of the detector and of what it does with an image."""

    detector: Literal["two_stage", "yolo", "retinanet"] = Field(
        "two_stage",
        description="two_stage: proposals and a patch classifier; yolo, retinanet: a one-stage network, keras-cv's YOLOV8 or RetinaNet.",
    )
    detector_size: HeightWidth | None = Field(
        None, description="For yolo and retinanet: height and width of the input; null: such that the median cell has 40 pixels."
    )
    detector_batch: Count = Field(4, description="For yolo and retinanet: images per batch.")
    anchors: Anchors = Field(
        default_factory=Anchors,
        description="For retinanet: {sizes, scales, ratios}; five sizes in pixels of its input, one per pyramid level.",
    )
    proposals: str = Field(
        "learned",
        description="Method that proposes candidate boxes: learned trains a network; watershed, sliding and those of plugins need no "
        "training.",
    )
    proposer_epochs: Count = Field(30, description="Epochs of the proposal network.")
    proposer_steps: Count = Field(100, description="Batches per epoch of the proposal network, of 8 crops of 256 x 256 pixels each.")
    proposer_augmentation: Literal["colours", "laboratories"] = Field(
        "colours",
        description="Augmentation of the proposal network beside position, scale and orientation: slight colour changes, or everything "
        "in which laboratories differ.",
    )
    screening_epochs: int = Field(
        0,
        ge=0,
        le=100_000,
        description="Epochs, of proposer_steps each, of a screening head: with it the proposal network tells which candidates are plainly "
        "of the most frequent class or no cells, and only the others are classified. It saves time where the classifier is larger than "
        "compact. 0: no screening, all candidates are classified.",
    )
    proposer_tta: Literal[1, 2, 4] = Field(
        1, description="Test-time augmentation of the proposal network: number of mirror images averaged."
    )
    nms: Literal["agnostic", "class"] = Field(
        "agnostic", description="Non-maximum suppression: agnostic: across all labels, so that a cell has one; class: within each label."
    )
    nms_iou: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="IoU above which the lower-scored box is suppressed; null: for two_stage 0.3 to 0.7, chosen by cell AP on the "
        "validation images, otherwise 0.4.",
    )
    score_threshold: Fraction = Field(0.05, description="Minimum score of the detections that are written.")
    tta: Annotated[int, Field(ge=1, le=8)] | ScanSettings = Field(
        1,
        description="Test-time augmentation: number of flipped and rotated views averaged per uncertain cell, 1 to 8; 1: off. For whole "
        "images also {runs: 4, scan: 4}: scan crops of image_size, each averaged over runs views with flips, zoom and "
        "contrast changes.",
    )
