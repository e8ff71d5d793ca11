"""Keys of the data: images, annotations, labels and the split."""

from typing import Annotated

from pydantic import Field, field_validator

from malaria_cells.config.class_names import PARASITES, SIX_CLASSES
from malaria_cells.config.sets import Name, OneSet
from malaria_cells.config.values import Count, FolderOrFile, Fraction, Settings


class DataKeys(Settings):
    """Keys of the data set, or of several."""

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

    @field_validator("labels")
    @classmethod
    def _labels_not_empty(cls, value: list[str] | None) -> list[str] | None:
        if value == []:
            raise ValueError("expected at least one label")
        return value

    @property
    def infected(self) -> list[str]:
        """The infected labels, with the default resolved."""
        return [n for n in self.labels or [] if n in PARASITES] if self.infected_labels is None else self.infected_labels

    @property
    def red_cells(self) -> list[str]:
        """The red-cell labels, with the default resolved."""
        return [n for n in self.labels or [] if n == SIX_CLASSES[0]] if self.red_cell_labels is None else self.red_cell_labels
