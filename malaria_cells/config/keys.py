"""Every key of the configuration: type, default, unit, meaning. Strict: an unknown key or a wrong type is an error."""

from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, StringConstraints, field_validator, model_validator

from malaria_cells.config.sets import Name, OneSet, check_names
from malaria_cells.config.values import FolderOrFile, Settings

SIX_CLASSES = ["red blood cell", "leukocyte", "gametocyte", "ring", "trophozoite", "schizont"]
PARASITES = ["gametocyte", "ring", "trophozoite", "schizont"]

LONGEST_TERMS = 2000  # characters
# Keys that the first model folders lack.
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
    """Test-time augmentation of whole pictures: `scan` overlapping crops, each augmented `runs` times."""

    runs: Count
    scan: Count


class SecondLook(Settings):
    """A second classifier for cells in which the first has a hint of a finding; all else of its recipe is the first one's."""

    model: str = "lite"
    weights: FolderOrFile = "none"
    freeze: bool = False
    epochs: Count
    learning_rate: Annotated[float, Field(gt=0)]
    image_size: HeightWidth | None = None
    augmentation: str | None = None


class Anchors(Settings):
    """Boxes that RetinaNet starts from: one size a level, from stride 8 to 128, in every scale and ratio."""

    sizes: list[Annotated[float, Field(gt=0, le=100_000)]] = Field(
        default_factory=lambda: [32.0, 64.0, 128.0, 256.0, 512.0], min_length=5, max_length=5
    )
    scales: list[Annotated[float, Field(gt=0, le=1000)]] = Field(default_factory=lambda: [1.0, 1.26, 1.59], min_length=1)
    ratios: list[Annotated[float, Field(gt=0, le=1000)]] = Field(default_factory=lambda: [0.75, 1.0, 1.33], min_length=1)


# Keys that name one file for all, and where it is named for one set of several.
_OF_ONE_SET = {
    "annotations": "name it in the set's own entry of data_sets, as `annotations`",
    "split_file": "name it in the set's own entry of data_sets, as `split`",
    "test_annotations": "name the test pictures of each set in its own entry of data_sets, by a `split` file",
    "corrections": "list the corrected pictures as a set of their own, and take the same photographs out of the other set",
}


class Config(Settings):
    """One run's settings. Field descriptions are the documentation of the keys."""

    name: str | None = Field(None, description="Name of the model folder; null: date and time.")
    terms: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_TERMS)] | None = Field(
        None, description="What the weights may be used for, as the terms of the data demand: kept in model.yaml and said in every report."
    )
    output_models: FolderOrFile = Field("models", description="Folder that model folders are written to.")
    random_state: int = Field(42, ge=0, le=2**32 - 1, description="Seed of every random choice: split, sampling, augmentation, weights.")

    train_images: FolderOrFile | Annotated[list[FolderOrFile], Field(min_length=1)] = Field(
        default_factory=lambda: ["data/bbbc041", "data/sample"],
        description="Folder of the data set; of a list, the first that exists.",
    )
    data_sets: Annotated[list[OneSet], Field(min_length=1)] | None = Field(
        None,
        description="Several data sets in the place of train_images, each with at least a path (docs/data_sets.md): {path, annotations, "
        "format, group, split, label_map, annotated_labels, weight, name}.",
    )
    annotations: FolderOrFile | None = Field(
        None, description="Annotation file or folder; null: what train_images holds, recognised by content."
    )
    corrections: FolderOrFile | None = Field(
        None,
        description="Corrected pictures, as run.py --review, CVAT or Label Studio write them: they join the training part or replace its "
        "same photographs.",
    )
    test_annotations: FolderOrFile | None = Field(
        None, description="Annotation file or folder of the test part; null: test.json in train_images, if there."
    )
    annotation_format: str = Field("auto", description="Name of the annotation's format; auto looks at the content.")
    split_file: FolderOrFile | None = Field(
        None, description='JSON {"train": [pictures], "test": [pictures]}; null: split.json in train_images, if there.'
    )
    group: str | None = Field(
        None,
        description="Keeps pictures of one slide on one side of every split: 'folder', or a regular expression whose (group) in the "
        "picture's path names the slide; null: each picture on its own. A slide on two sides is an error, a path without one is warned of.",
    )
    labels: list[Name] | None = Field(
        default_factory=lambda: list(SIX_CLASSES),
        description="Class names; their order is that of the class ids; null: the categories found, in alphabetical order.",
    )
    ignore_labels: list[Name] = Field(
        default_factory=lambda: ["difficult"], description="Categories that are neither trained on nor scored: ignore regions."
    )
    label_map: dict[Name, Name] = Field(
        default_factory=dict,
        description="Names of the annotation that stand for one of labels or ignore_labels, as in {RBC: red blood cell}.",
    )
    infected_labels: list[str] | None = Field(
        None, description="Labels that are infected red cells; null: those of gametocyte, ring, trophozoite, schizont in labels; []: none."
    )
    red_cell_labels: list[str] | None = Field(
        None, description="Labels that are red cells, beside the infected ones; null: 'red blood cell' if it is in labels."
    )
    min_box_size: float = Field(4, ge=1, le=1_000_000, description="Boxes whose shorter side is under this many pixels are dropped.")
    test_size: Fraction = Field(0.2, description="Share of the pictures held out for the test, where no test part is named.")
    validation_size: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.15, description="Share of the other pictures for validation: early stopping, calibration, thresholds."
    )

    train_size: Count | None = Field(
        None, description="Examples of each class to train on: pictures where labels are of whole pictures, else cells; null: all."
    )

    stain_normalization: Literal["none", "clear_field", "density"] = Field(
        "none",
        description="Of two_stage: what is done to a photograph before any network sees it. clear_field: the clear field becomes white; "
        "density: and what is stained as dark as in any other photograph, channel by channel, so that laboratories look alike.",
    )
    image_size: HeightWidth = Field((64, 64), description="Height and width of a patch in pixels: the classifier's input.")
    context: float = Field(1.25, ge=1, le=100, description="Side of the square cut around a box, as a multiple of the box's longer side.")
    background_per_image: int = Field(
        10,
        ge=0,
        le=1_000_000,
        description="Patches cut from each picture where no box is, for the reject class of detection; 0: no such class.",
    )
    patch_cache: FolderOrFile = Field(
        ".cache/patches", description="Folder of the patch stores, which are rebuilt when their pictures change."
    )

    start_from: FolderOrFile | None = Field(
        None,
        description="Of two_stage with learned proposals: a model folder whose networks the training goes on from. Its architecture, "
        "sizes, labels and decisions are taken where they are not set, and 0.3 of the usual learning_rate. Where another `model` or "
        "pretrained `weights` are set the classifier begins anew, and the network that finds cells goes on. null: train from the "
        "beginning.",
    )
    model: str = Field(
        "compact",
        description="Architecture: compact, vgg, baseline, augmented, lite, efficientnetb0 to b7, efficientnetv2b0 to b3, s, m, l, or a "
        "full name such as keras.applications.ResNet50V2.",
    )
    weights: FolderOrFile | None = Field("none", description="Of a backbone: imagenet, none, or a file.")
    freeze: bool = Field(False, description="Whether a backbone keeps its weights and only the head is trained.")
    adapt_normalization: bool | None = Field(
        None,
        description="Fit mean and variance of the network's normalisation layer, if it has one, to the training patches; null: unless "
        "`weights` are pretrained, which come with those that they were trained under.",
    )
    dropout: Fraction = Field(0.3, description="Dropout before the dense layers.")
    epochs: Count = Field(12, description="Passes at most.")
    batch_size: Count = Field(64, description="Patches a step.")
    steps_per_epoch: Count | None = Field(None, description="Steps of a pass; null: as many as show every patch once.")
    validation_steps: Count | None = Field(None, description="Validation batches a pass; null: all.")
    loss: Literal["cross_entropy", "focal"] = Field("cross_entropy", description="Loss.")
    focal_alpha: Annotated[float, Field(gt=0, le=1)] = Field(
        0.25, description="Weight of the focal loss (Lin et al. 2017, arXiv:1708.02002); with two labels, of the second."
    )
    focal_gamma: float = Field(2.0, ge=0, le=100, description="How much the focal loss leaves easy examples alone; 0: cross-entropy.")
    label_smoothing: Fraction = Field(0.0, description="Share of the label that is spread over all classes.")
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = Field("adamw", description="Optimizer.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(0.002, description="Highest learning rate.")
    schedule: Literal["cosine", "plateau", "constant"] = Field(
        "cosine", description="Learning rate over time: cosine decay, reduced when val_loss stalls, or constant."
    )
    cosine_alpha: Fraction = Field(0.0, description="Where cosine decay ends, as a share of the learning rate.")
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = Field(0.5, description="What the learning rate is multiplied by then.")
    plateau_patience: Count = Field(3, description="Passes without a better val_loss before that.")
    balance: Literal["class_weight", "sampling", "none"] = Field(
        "sampling", description="Against rare classes being ignored: balanced class weights, balanced sampling, or nothing."
    )
    sampling_power: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5,
        description="Of balanced sampling: classes are drawn in proportion to their count to this power. 0: equally often, against "
        "misses; 1: as they occur, against false alarms.",
    )
    augmentation: str = Field(
        "stain",
        description="Named policy: none, flips, stain, slides, laboratories, shifts, microscope, layers, randaugment, cutmix, mixup, "
        "or several, as in slides+mixup.",
    )
    early_stopping: Count | None = Field(6, description="Passes without a better val_macro_f1 before training stops; null: never.")

    second_look: SecondLook | None = Field(
        None,
        description="Of two_stage: {model, weights, freeze, epochs, learning_rate, image_size, augmentation} of a second classifier, "
        "averaged with the first on cells in which that has a hint of an infection; with balance: sampling it learns from its mistakes. "
        "null: none.",
    )

    kept_weights: Literal["best", "last"] = Field(
        "best",
        description="Which weights are kept: of the pass with the best val_macro_f1, or of the last; a validation part with few findings "
        "picks the best by luck.",
    )
    refit: Fraction = Field(
        0.0,
        description="Of two_stage: once thresholds are chosen, train the classifiers further, with the validation pictures among the "
        "others, for this share of their passes; 0: not.",
    )
    elsewhere: FolderOrFile | None = Field(
        None,
        description="JSON of how such a model does on data sets that its training left out, from crossvalidate --by data_set: by it "
        "red cells of photographs that are like those of sets without infected cells are told apart, and intervals of photographs that are "
        "not as learned widened; null: unusual ones have none.",
    )
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = Field(
        "float32", description="Of the classifiers' arithmetic; the mixed ones are for hardware that is made for them."
    )
    keep_checkpoints: int = Field(
        0, ge=0, le=1_000_000, description="Weights of so many last passes are kept in the model folder, beside the best pass's."
    )
    tensorboard: bool = Field(False, description="Write scalars and weight histograms for TensorBoard into the model folder.")
    plot_training_data: bool = Field(False, description="Draw training examples of each class into the model folder.")

    detector: Literal["two_stage", "yolo", "retinanet"] = Field(
        "two_stage", description="two_stage: proposals and a patch classifier; or one network for both, keras-cv's YOLOV8 or RetinaNet."
    )
    detector_size: HeightWidth | None = Field(
        None, description="Of yolo and retinanet: height and width of the input; null: so that the usual cell has 40 pixels."
    )
    detector_batch: Count = Field(4, description="Of yolo and retinanet: pictures a step.")
    anchors: Anchors = Field(
        default_factory=Anchors, description="Of retinanet: {sizes, scales, ratios}; five sizes in pixels of its input, one a level."
    )
    proposals: Literal["watershed", "sliding", "learned"] = Field(
        "learned",
        description="How detection finds candidate boxes; learned trains a network for it, the others need no training.",
    )
    proposer_epochs: Count = Field(30, description="Passes of the training of learned proposals.")
    proposer_steps: Count = Field(100, description="Steps of such a pass, of 8 crops of 256 x 256 pixels.")
    proposer_augmentation: Literal["colours", "laboratories"] = Field(
        "colours",
        description="What is varied from crop to crop, beside place, size and turn: colours a little, or all in which laboratories differ.",
    )
    proposer_tta: Literal[1, 2, 4] = Field(1, description="Mirror images of a picture that learned proposals are averaged over.")
    nms: Literal["agnostic", "class"] = Field("agnostic", description="agnostic: one label a cell; class: labels suppress only their own.")
    nms_iou: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="Overlap (IoU) from which the lower-scored box is suppressed; null: of two_stage 0.3 to 0.7, as serves cells of the "
        "validation pictures best, of the others 0.4.",
    )
    score_threshold: Fraction = Field(0.05, description="Detections scored lower are not written.")
    tta: Annotated[int, Field(ge=1, le=8)] | ScanSettings = Field(
        1,
        description="Views averaged for each suspect cell, 1 to 8: flips and quarter turns; 1 is none. For whole pictures also "
        "{runs: 4, scan: 4}: so many crops of image_size, each seen so many times under flips, zoom and contrast.",
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
    def _cells_and_shares(self) -> "Config":
        for key, look in zip(("image_size", "second_look.image_size"), self.looks, strict=False):
            if min(look.image_size) < 16:
                raise ValueError(f"{key}: {list(look.image_size)} is under 16 pixels; a patch that small shows no parasite")
        return self

    @model_validator(mode="after")
    def _one_place_for_data(self) -> "Config":
        if self.data_sets is None:
            return self
        if "train_images" in self.model_fields_set:
            raise ValueError("train_images and data_sets are both given; expected one of them: leave train_images out, or data_sets: null")
        for key, inner in _OF_ONE_SET.items():
            if getattr(self, key) is not None:
                raise ValueError(f"{key}: is of one data set, and there is a list of them; {inner}")
        check_names(entry.name for entry in self.data_sets)
        return self

    @property
    def looks(self) -> tuple["Config", ...]:
        """The recipes of the classifiers: this one and, if there is a second look, that one's."""
        return (self, self.model_copy(update=self.second_look.model_dump(exclude_none=True))) if self.second_look else (self,)

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
        # With newer keys at their defaults the text is that of a model folder from before there were such keys, whose recipe is the same.
        excluded = {key for key in NEWER if getattr(self, key) == type(self).model_fields[key].get_default(call_default_factory=True)}
        if self.data_sets is not None:
            excluded.add("train_images")
        return yaml.safe_dump(self.model_dump(mode="json", exclude=excluded), sort_keys=False, allow_unicode=True)
