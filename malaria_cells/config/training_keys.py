"""Keys of training: patches, architecture, optimisation and what is kept."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from malaria_cells.config.values import Count, FolderOrFile, Fraction, HeightWidth, Settings


class Refiner(Settings):
    """Recipe of the second-stage classifier. Keys that are not set here are as for the first classifier."""

    model: str = "lite"
    weights: FolderOrFile = "none"
    freeze: bool = False
    epochs: Count
    learning_rate: Annotated[float, Field(gt=0)]
    image_size: HeightWidth | None = None
    augmentation: str | None = None


class TrainingKeys(Settings):
    """Keys of patches and networks, and of their training."""

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
        "scores again cells to which the first classifier gives a probability of infection from 0.1 to 0.7 on, by validation, and the two "
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
    distribute: Literal["none", "mirrored"] = Field(
        "none",
        description="Devices that the classifiers of two_stage are trained on: none: one; mirrored: all GPUs of the machine, among which "
        "each batch is divided equally (batch_size is that of all together), with the same results up to rounding and the masks of "
        "dropout.",
    )
    keep_checkpoints: int = Field(
        0, ge=0, le=1_000_000, description="Number of most recent epoch checkpoints to keep in the model folder, in addition to the best."
    )
    tensorboard: bool = Field(False, description="Write scalars and weight histograms for TensorBoard into the model folder.")
    plot_training_data: bool = Field(False, description="Draw training examples of each class into the model folder.")

    @field_validator("weights", mode="before")
    @classmethod
    def _no_weights(cls, value: Any) -> Any:
        return "none" if value is None else value
