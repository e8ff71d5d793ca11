"""All configuration keys with type, default, unit and meaning. An unknown key or a wrong type is an error."""

from typing import Annotated

import yaml
from pydantic import Field, StringConstraints, model_validator

from malaria_cells.config.data_keys import DataKeys
from malaria_cells.config.detection_keys import DetectionKeys
from malaria_cells.config.sets import check_names
from malaria_cells.config.training_keys import TrainingKeys
from malaria_cells.config.values import FolderOrFile, Settings

LONGEST_TERMS = 2000  # characters of `terms`
# Keys that were added after the first model folders were written.
NEWER = (
    *("label_map", "data_sets", "stain_normalization", "proposer_augmentation", "start_from", "elsewhere", "terms", "distribute"),
    "deterministic",
)

# Keys that are only valid for a single data set, with advice on the equivalent for `data_sets`.
_OF_ONE_SET = {
    "annotations": "name the file in the entry of its data set, as `annotations`",
    "split_file": "name the file in the entry of its data set, as `split`",
    "test_annotations": "name the test images in a `split` file in the entry of each data set",
    "corrections": "add the corrected images as a data set of their own, and remove the same images from the other data set",
}


class RunKeys(Settings):
    """Keys of the run as a whole."""

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
    deterministic: bool = Field(
        False,
        description="In training, only operations of TensorFlow that give the same result in every run: with the same seed on the same "
        "machine the same weights, bit for bit. Some are slower, and one that has no such form is an error. On processors trainings have "
        "been repeatable without it.",
    )


class Config(DetectionKeys, TrainingKeys, DataKeys, RunKeys):  # pydantic lists the keys of the last base first
    """Configuration of a run. The field descriptions document the keys (docs/config.md)."""

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

    @model_validator(mode="after")
    def _distributes_classifiers_only(self) -> "Config":
        if self.distribute != "none" and self.detector != "two_stage":
            raise ValueError(
                f"distribute: {self.distribute} is for the classifiers of detector: two_stage; {self.detector} is trained on one device: "
                "set distribute to none"
            )
        return self

    @property
    def classifiers(self) -> tuple["Config", ...]:
        """Configurations of the classifiers: the first classifier's (this one) and, if there is a refiner, the refiner's."""
        return (self, self.model_copy(update=self.refiner.model_dump(exclude_none=True))) if self.refiner else (self,)

    def to_yaml(self) -> str:
        """The configuration as YAML that `load_config` reads back to an equal one."""
        # Newer keys at their defaults are left out, so that the text equals that of an older model folder with the same recipe.
        excluded = {key for key in NEWER if getattr(self, key) == type(self).model_fields[key].get_default(call_default_factory=True)}
        if self.data_sets is not None:
            excluded.add("train_images")
        return yaml.safe_dump(self.model_dump(mode="json", exclude=excluded), sort_keys=False, allow_unicode=True)
