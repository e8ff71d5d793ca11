"""``adapt``: fine-tunes a trained model on a few annotated images and writes a new model."""

import logging
import shlex

from malaria_cells.app.commands.adapt_data import AdaptRequest, config_of, load_images, print_summary
from malaria_cells.base import files
from malaria_cells.base.errors import InputError
from malaria_cells.base.tensorflow_setup import start_tensorflow
from malaria_cells.base.text import number_of, rounded
from malaria_cells.data.seen_before import say_seen
from malaria_cells.fitting.claim import check_place, claimed
from malaria_cells.inference.model_description import ABOUT
from malaria_cells.results.training_report import write_training_files
from malaria_cells.training.adaptation_result import PART, Adapted
from malaria_cells.training.start_model import find_start

log = logging.getLogger(__name__)

MANY_IMAGES = 60  # with more images a training with `start_from` gives a better model
NAMES = {"cell_AP50": "cell AP50", "infected_AP50": "infected AP50", "infected_f1": "infected F1"}
TOLERANCE = 0.01  # AP or F1; a warning is given if the new model is worse than the start model by more


def adapt(request: AdaptRequest) -> int:
    """Fine-tune a model on a few annotated images and write the new model's folder.

    Returns:
        Exit code.

    Raises:
        InputError: the request or the images are invalid; nothing is written.
    """
    start = find_start(request.model, "--from")
    output, name = request.output.parent, request.output.name
    check_place(output, name)
    files.check_replaceable(request.output, ABOUT)
    _check_no_overlap(request)
    config = config_of(request, start)
    images = load_images(request, config)
    print_summary(images, start)
    seen_before = say_seen(start.folder, {PART: images.annotated}, "--from")
    if len(images.annotated) > MANY_IMAGES:
        log.warning(
            f"{len(images.annotated)} images are more than adapt is made for; train.py with `start_from: {request.model}` takes longer "
            "and gives a better model"
        )
    with claimed(output, name, resume=False):
        start_tensorflow()
        from malaria_cells.training.adapt_model import ModelAdaptation

        with files.replacing_folder(request.output, ABOUT) as new_folder, files.scratch_folder(request.output) as folder:
            adaptation = ModelAdaptation(start, config, images, request.minutes, seen_before)
            adapted = adaptation.write(new_folder, folder, command_line(request))
            write_training_files(new_folder, name, adapted.result)
        _report(request, len(images.annotated), adapted)
    print(f"model: {request.output}\nnext:  python run.py --model {request.output} --image IMAGES")
    return 0


def _check_no_overlap(request: AdaptRequest) -> None:
    """Check that the output folder neither contains an input nor lies in the start model's folder."""
    output, model = request.output.resolve(), request.model.resolve()
    if model == output or model in output.parents:
        where = "is" if model == output else "lies in"
        raise InputError(f"--output {request.output}: {where} the start model's folder, which must not change; name another folder")
    for path in (request.model, request.data, request.images, request.old_data):
        if path is not None and output in (path.resolve(), *path.resolve().parents):
            raise InputError(f"--output {request.output}: contains the input {path}, which would be overwritten; name another folder")


def _report(request: AdaptRequest, n_images: int, adapted: Adapted) -> None:
    before, after, budget = adapted.before, adapted.after, adapted.budget
    print(f"cross-validated on {number_of(n_images, 'image')}:")
    for key, name in NAMES.items():
        if after[key] is not None:
            was = f"{rounded(before[key])} before, " if before else ""
            print(f"  {name}: {was}{rounded(after[key])} now")
    for message in adapted.messages:
        log.warning(message)
    worse = [name for key, name in NAMES.items() if before and _is_worse(after[key], before[key])]
    if worse:
        log.warning(
            f"the new model has a lower {' and '.join(worse)} on these images than {request.model}; see report.html, annotate "
            "more images, or keep the old model"
        )
    if budget.least_fraction < 1:
        log.warning(
            f"--minutes {request.minutes:g}: this machine had time for {budget.least_fraction:.0%} of the planned training steps; "
            "more minutes may give a better model"
        )
    print(f"{budget.elapsed:.0f} s")


def _is_worse(after: float | None, before: float | None) -> bool:
    return after is not None and before is not None and after < before - TOLERANCE


def command_line(request: AdaptRequest) -> str:
    """The command that makes the same model."""
    words = ["malaria-cells", "adapt", str(request.data), "--from", str(request.model), "--output", str(request.output)]
    for flag, value in (("--images", request.images), ("--group", request.group), ("--old-data", request.old_data)):
        words += [flag, str(value)] if value is not None else []
    words += ["--format", request.format_name] if request.format_name != "auto" else []
    for flag, names in (("--labels", request.labels), ("--infected-labels", request.infected_labels)):
        words += [flag, ",".join(names)] if names is not None else []
    words += ["--ignore-labels", ",".join(request.ignore_labels)] if request.ignore_labels else []
    words += ["--label-map", ",".join(f"{a}={b}" for a, b in request.label_map.items())] if request.label_map else []
    words += ["--minutes", f"{request.minutes:g}"] if request.minutes != AdaptRequest.minutes else []
    return shlex.join(words)
