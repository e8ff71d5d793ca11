"""All configuration keys with type, default, unit and meaning. An unknown key or a wrong type is an error."""

from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, StringConstraints, field_validator, model_validator

from malaria_cells.config.sets import Name, OneSet, check_names
from malaria_cells.config.values import FolderOrFile, Settings

SIX_CLASSES = ["red blood cell", "leukocyte", "gametocyte", "ring", "trophozoite", "schizont"]
PARASITES = ["gametocyte", "ring", "trophozoite", "schizont"]

LONGEST_TERMS = 2000  # characters of `terms`
# Keys that were added after the first model folders were written.
NEWER = ("label_map", "data_sets", "stain_normalization", "proposer_augmentation", "start_from", "elsewhere", "terms")

Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Pixels = Annotated[int, Field(ge=1, le=20_000)]


def _as_tuple(value: Any) -> Any:
    if value is not None and (not isinstance(value, list | tuple) or len(value) != 2):
        raise ValueError("expected [height, width] in pixels")
    return tuple(value) if isinstance(value, list) else value


HeightWidth = Annotated[tuple[Pixels, Pixels], BeforeValidator(_as_tuple)]


class ScanSettings(Settings):
    """Test-time augmentation of whole images: `scan` overlapping crops, each augmented `runs` times."""

    runs: Count
    scan: Count


class Refiner(Settings):
    """Recipe of the second-stage classifier. Keys that are not set here are as for the first classifier."""

    model: str = "lite"
    weights: FolderOrFile = "none"
    freeze: bool = False
    epochs: Count
    learning_rate: Annotated[float, Field(gt=0)]
    image_size: HeightWidth | None = None
    augmentation: str | None = None


class Anchors(Settings):
    """Anchor boxes of RetinaNet: one size in pixels per pyramid level (strides 8 to 128), in all scales and aspect ratios."""

    sizes: list[Annotated[float, Field(gt=0, le=100_000)]] = Field(
        default_factory=lambda: [32.0, 64.0, 128.0, 256.0, 512.0], min_length=5, max_length=5
    )
    scales: list[Annotated[float, Field(gt=0, le=1000)]] = Field(default_factory=lambda: [1.0, 1.26, 1.59], min_length=1)
    ratios: list[Annotated[float, Field(gt=0, le=1000)]] = Field(default_factory=lambda: [0.75, 1.0, 1.33], min_length=1)


# Keys that are only valid for a single data set, with advice on the equivalent for `data_sets`.
_OF_ONE_SET = {
    "annotations": "name the file in the entry of its data set, as `annotations`",
    "split_file": "name the file in the entry of its data set, as `split`",
    "test_annotations": "name the test images in a `split` file in the entry of each data set",
    "corrections": "add the corrected images as a data set of their own, and remove the same images from the other data set",
}


class Config(Settings):
    """Configuration of a run. The field descriptions document the keys (docs/config.md)."""

    name: str | None = Field(None, description="Name of the model folder; null: date and time.")
    terms: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_TERMS)] | None = Field(
        None,
        description="Terms of use of the weights, as the licences of the data demand. They are stored in model.yaml and shown in every "
        "report.",
    )
    output_models: FolderOrFile = Field("models", description="Folder in which model folders are created.")
    random_state: int = Field(
        42, ge=0, le=2**32 - 1, description="Seed of every random choice: split, sampling, augmentation, initial weights."
    )

    train_images: FolderOrFile | Annotated[list[FolderOrFile], Field(min_length=1)] = Field(
        default_factory=lambda: ["data/bbbc041", "data/sample"],
        description="Folder of the data set, or a list of folders, of which the first that exists is used.",
    )
    data_sets: Annotated[list[OneSet], Field(min_length=1)] | None = Field(
        None,
        description="Several data sets instead of train_images, each with at least a path (docs/data_sets.md): {path, annotations, "
        "format, group, split, label_map, annotated_labels, weight, name}.",
    )
    annotations: FolderOrFile | None = Field(
        None, description="Annotation file or folder; null: searched for in train_images and recognised by its content."
    )
    corrections: FolderOrFile | None = Field(
        None,
        description="Corrected images, as run.py --review, CVAT or Label Studio write them. They are added to the training part or "
        "replace the same images in it.",
    )
    test_annotations: FolderOrFile | None = Field(
        None, description="Annotation file or folder of the test part; null: test.json in train_images, if it exists."
    )
    annotation_format: str = Field("auto", description="Name of the annotation format; auto: recognised by the content.")
    split_file: FolderOrFile | None = Field(
        None, description='JSON file {"train": [images], "test": [images]}; null: split.json in train_images, if it exists.'
    )
    group: str | None = Field(
        None,
        description="Keeps the images of one slide on one side of every split: 'folder', or a regular expression whose (group) in the "
        "image's path names the slide; null: every image is its own group. A slide on two sides is an error; a path without "
        "a slide is warned of.",
    )
    labels: list[Name] | None = Field(
        default_factory=lambda: list(SIX_CLASSES),
        description="Class names, in the order of the class ids; null: the categories of the annotation in alphabetical order.",
    )
    ignore_labels: list[Name] = Field(
        default_factory=lambda: ["difficult"], description="Categories that are ignore regions: neither trained on nor scored."
    )
    label_map: dict[Name, Name] = Field(
        default_factory=dict,
        description="Maps category names of the annotation to names in labels or ignore_labels, as in {RBC: red blood cell}.",
    )
    infected_labels: list[str] | None = Field(
        None,
        description="Labels of infected red cells; null: gametocyte, ring, trophozoite, schizont, as far as they are in labels; []: none.",
    )
    red_cell_labels: list[str] | None = Field(
        None, description="Labels of red cells, in addition to the infected ones; null: 'red blood cell' if it is in labels."
    )
    min_box_size: float = Field(
        4, ge=1, le=1_000_000, description="Minimum length of the shorter side of a box in pixels; smaller boxes are dropped."
    )
    test_size: Fraction = Field(0.2, description="Fraction of the images held out for the test, if no test part is given.")
    validation_size: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.15, description="Fraction of the remaining images used for validation: early stopping, calibration, thresholds."
    )

    train_size: Count | None = Field(
        None,
        description="Maximum number of training examples per class: images if the labels are of whole images, otherwise cells; null: all.",
    )

    stain_normalization: Literal["none", "clear_field", "density"] = Field(
        "none",
        description="For two_stage: colour normalisation of each image before all networks. clear_field: the background becomes white; "
        "density: in addition the optical density of the red cells is set to a common value, channel by channel, so that "
        "images of different laboratories look alike.",
    )
    image_size: HeightWidth = Field((64, 64), description="Height and width of a patch in pixels: the input of the classifier.")
    context: float = Field(
        1.25, ge=1, le=100, description="Side of the square that is cropped around a box, as a multiple of the box's longer side."
    )
    background_per_image: int = Field(
        10,
        ge=0,
        le=1_000_000,
        description="Number of background patches cropped from each image, where there is no box; 0: no background class.",
    )
    patch_cache: FolderOrFile = Field(
        ".cache/patches", description="Folder of the cached patches; they are rebuilt when the images change."
    )

    start_from: FolderOrFile | None = Field(
        None,
        description="For two_stage with learned proposals: model folder whose networks are fine-tuned. Architecture, sizes, labels and "
        "thresholds that the config does not set are taken from it, and 0.3 of the default learning_rate. If another `model` "
        "or pretrained `weights` are set, only the proposal network is fine-tuned and the classifier is trained from "
        "scratch; null: train from scratch.",
    )
    model: str = Field(
        "compact",
        description="Architecture: compact, vgg, baseline, augmented, lite, efficientnetb0 to b7, efficientnetv2b0 to b3, s, m, l, or a "
        "full name such as keras.applications.ResNet50V2.",
    )
    weights: FolderOrFile | None = Field("none", description="Initial weights of the backbone: imagenet, none, or a path.")
    freeze: bool = Field(False, description="Freeze the backbone and train only the head.")
    adapt_normalization: bool | None = Field(
        None,
        description="Fit mean and variance of the network's normalisation layer, if it has one, to the training patches; null: yes, "
        "unless `weights` are pretrained.",
    )
    dropout: Fraction = Field(0.3, description="Dropout rate before the dense layers.")
    epochs: Count = Field(12, description="Maximum number of epochs.")
    batch_size: Count = Field(64, description="Patches per batch.")
    steps_per_epoch: Count | None = Field(None, description="Batches per epoch; null: every patch once.")
    validation_steps: Count | None = Field(None, description="Validation batches per epoch; null: all.")
    loss: Literal["cross_entropy", "focal"] = Field("cross_entropy", description="Loss function.")
    focal_alpha: Annotated[float, Field(gt=0, le=1)] = Field(
        0.25, description="Weight alpha of the focal loss (Lin et al. 2017, arXiv:1708.02002); with two labels, that of the second."
    )
    focal_gamma: float = Field(2.0, ge=0, le=100, description="Focusing parameter gamma of the focal loss; 0: cross-entropy.")
    label_smoothing: Fraction = Field(0.0, description="Fraction of the target probability that is spread over all classes.")
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = Field("adamw", description="Optimizer.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(0.002, description="Peak learning rate.")
    schedule: Literal["cosine", "plateau", "constant"] = Field(
        "cosine", description="Learning rate schedule: cosine decay, reduction when val_loss stalls (plateau), or constant."
    )
    cosine_alpha: Fraction = Field(0.0, description="Final learning rate of the cosine decay, as a fraction of learning_rate.")
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = Field(0.5, description="Factor of each reduction by the plateau schedule.")
    plateau_patience: Count = Field(3, description="Epochs without a better val_loss before a reduction by the plateau schedule.")
    balance: Literal["class_weight", "sampling", "none"] = Field(
        "sampling", description="Handling of class imbalance: weight the loss, re-sample, or neither."
    )
    sampling_power: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5,
        description="With balance: sampling, the sampling probability of a class is proportional to count**sampling_power. 0: uniform "
        "(fewer misses); 1: natural frequency (fewer false alarms).",
    )
    augmentation: str = Field(
        "stain",
        description="Augmentation policy: none, flips, stain, slides, laboratories, shifts, microscope, layers, randaugment, cutmix, "
        "mixup, or several, as in slides+mixup.",
    )
    early_stopping: Count | None = Field(6, description="Epochs without a better val_macro_f1 before training stops; null: never.")

    refiner: Refiner | None = Field(
        None,
        description="Second classifier for two_stage: {model, weights, freeze, epochs, learning_rate, image_size, augmentation}. It "
        "scores again the cells to which the first classifier gives an infection probability of at least 0.1, and the two "
        "are averaged. With balance: sampling, false positives of the first classifier are over-sampled. null: none.",
    )

    kept_weights: Literal["best", "last"] = Field(
        "best",
        description="Weights that are kept: of the epoch with the best val_macro_f1, or of the last. Use last if validation holds few "
        "infected cells, since the best epoch is then mostly chance.",
    )
    refit: Fraction = Field(
        0.0,
        description="For two_stage: after thresholds are chosen, fine-tune on training and validation images for this fraction of the "
        "epochs; 0: off.",
    )
    elsewhere: FolderOrFile | None = Field(
        None,
        description="JSON file with the figures of this recipe on data sets left out of the training, from crossvalidate --by data_set. "
        "It is used for images of unfamiliar laboratories: to detect infected cells in images that resemble data sets "
        "without any, and to widen the parasitemia interval. null: unfamiliar images have no interval.",
    )
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = Field(
        "float32", description="Floating-point precision of the classifiers; the mixed ones need hardware that supports them."
    )
    keep_checkpoints: int = Field(
        0, ge=0, le=1_000_000, description="Number of most recent epoch checkpoints to keep in the model folder, in addition to the best."
    )
    tensorboard: bool = Field(False, description="Write scalars and weight histograms for TensorBoard into the model folder.")
    plot_training_data: bool = Field(False, description="Draw training examples of each class into the model folder.")

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

    @field_validator("labels")
    @classmethod
    def _labels_not_empty(cls, value: list[str] | None) -> list[str] | None:
        if value == []:
            raise ValueError("expected at least one label")
        return value

    @field_validator("weights", mode="before")
    @classmethod
    def _no_weights(cls, value: Any) -> Any:
        return "none" if value is None else value

    @model_validator(mode="after")
    def _patches_are_large_enough(self) -> "Config":
        for key, recipe in zip(("image_size", "refiner.image_size"), self.classifiers, strict=False):
            if min(recipe.image_size) < 16:
                raise ValueError(f"{key}: {list(recipe.image_size)} is too small; expected at least 16 pixels per side")
        return self

    @model_validator(mode="after")
    def _one_place_for_data(self) -> "Config":
        if self.data_sets is None:
            return self
        if "train_images" in self.model_fields_set:
            raise ValueError("train_images and data_sets are both given; expected one of them: remove train_images, or set data_sets: null")
        for key, inner in _OF_ONE_SET.items():
            if getattr(self, key) is not None:
                raise ValueError(f"{key}: cannot be used together with data_sets; {inner}")
        check_names(entry.name for entry in self.data_sets)
        return self

    @property
    def classifiers(self) -> tuple["Config", ...]:
        """Configurations of the classifiers: the first classifier's (this one) and, if there is a refiner, the refiner's."""
        return (self, self.model_copy(update=self.refiner.model_dump(exclude_none=True))) if self.refiner else (self,)

    @property
    def infected(self) -> list[str]:
        """The infected labels, with the default resolved."""
        return [n for n in self.labels or [] if n in PARASITES] if self.infected_labels is None else self.infected_labels

    @property
    def red_cells(self) -> list[str]:
        """The red-cell labels, with the default resolved."""
        return [n for n in self.labels or [] if n == SIX_CLASSES[0]] if self.red_cell_labels is None else self.red_cell_labels

    def to_yaml(self) -> str:
        """The configuration as YAML that `load_config` reads back to an equal one."""
        # Newer keys at their defaults are left out, so that the text equals that of an older model folder with the same recipe.
        excluded = {key for key in NEWER if getattr(self, key) == type(self).model_fields[key].get_default(call_default_factory=True)}
        if self.data_sets is not None:
            excluded.add("train_images")
        return yaml.safe_dump(self.model_dump(mode="json", exclude=excluded), sort_keys=False, allow_unicode=True)
