"""``run --resume``: which images of an unfinished run are finished, and whether the request is the same."""

import hashlib
import importlib.metadata
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from malaria_cells.app.commands.run_model import LoadedModel
from malaria_cells.app.commands.run_request import DETECTION_OPTIONS, RunRequest
from malaria_cells.base import files
from malaria_cells.base.errors import InputError
from malaria_cells.base.text import excerpt, number_of
from malaria_cells.results.journal_lines import FinishedImage, Stamp
from malaria_cells.results.output_folder import ANNOTATED, COMPARED, UNFINISHED, claimed, is_of_a_run
from malaria_cells.results.review import FOLDER as REVIEW
from malaria_cells.results.run_journal import JOURNAL, RunJournal, has_finished_images, read_head
from malaria_cells.results.run_results import RunResults

log = logging.getLogger(__name__)

BESIDE_BARE = ("model.yaml", "labels.txt")  # files beside a bare Keras file that say how it is used
VERSION = "the version of malaria-cells"
MAX_NAMED = 3  # images that a warning names

Unfinished = dict[str, Any]  # the first line of the journal of an unfinished run: its settings, its folder of images and their keys


@dataclass
class ResumableRun:
    """The images of a run, of which some may be finished.

    Attributes:
        root: folder that the keys are relative to.
        keys: all images of the run, sorted.
        journal: the journal of the run.
        is_resumed: whether the run began earlier.
        finished: results of the finished images.
        to_do: images that are not finished, sorted.
    """

    root: Path
    keys: list[str]
    journal: RunJournal
    is_resumed: bool
    finished: RunResults = field(default_factory=RunResults)
    to_do: list[str] = field(default_factory=list)

    def take_finished(self, drawn: Callable[[str], Path] | None = None) -> None:
        """Take over the results of finished images from the journal, print how many there are, and warn of those that are done again.

        An image is done again if its file was changed since, or if its annotated image is missing or has another size.

        Args:
            drawn: returns the path of the annotated image of a key; None: none are drawn.
        """
        images: dict[str, FinishedImage] = {}
        for image in self.journal.images() if self.is_resumed else ():
            images[image.key] = image
            self.finished.seconds = image.seconds
        changed, not_drawn = [], []
        for key in self.keys:
            stamp = Stamp.of(self.root / key) if key in images else None
            if stamp is None:  # not finished, or gone, of which `images_of_run` has warned
                continue
            image = images.pop(key)
            if image.stamp != stamp:
                changed.append(key)
            elif drawn is not None and _n_bytes(drawn(key)) != image.drawn_bytes:
                not_drawn.append(key)
            else:
                self.finished.add(key, image.size_wh, image.result)
        self.to_do = [key for key in self.keys if key not in self.finished.results]
        if self.is_resumed:
            _warn(changed, "changed since they were finished, and done again")
            _warn(not_drawn, "without their annotated image, and done again")
            self._say()

    def _say(self) -> None:
        if self.journal.damaged:
            lines = number_of(self.journal.damaged, "line")
            log.warning(f"--resume: {self.journal.path}: {lines} torn or damaged; images that no other line has will be done again")
        print(f"--resume: {len(self.finished.results):,} of {number_of(len(self.keys), 'image')} are finished, {len(self.to_do):,} to do")


def _n_bytes(path: Path) -> int | None:
    stamp = Stamp.of(path)
    return None if stamp is None else stamp.n_bytes


def unfinished_run(request: RunRequest) -> Unfinished | None:
    """Return the unfinished run that is to be resumed; None if a new run is to begin.

    Raises:
        InputError: a resume would replace a finished run, or a new run an unfinished one; or the journal cannot be read.
    """
    folder = request.output
    if not request.resume:
        if has_finished_images(folder):
            with claimed(folder):  # if the run is still at work, the error is that another run is writing
                _refuse(folder)
        return None
    unfinished = read_head(folder)
    if unfinished is None and is_of_a_run(folder) and not (folder / UNFINISHED).is_file():
        raise InputError(
            f"--resume: {folder} holds a finished run and no unfinished one; leave out --resume to replace it, or choose another --output"
        )
    return unfinished


def _refuse(folder: Path) -> None:
    raise InputError(
        f"--output {folder}: holds an unfinished run; add --resume to go on with it, or choose another --output, or delete "
        f"{folder / JOURNAL} to begin again"
    )


def images_of_run(request: RunRequest, unfinished: Unfinished | None, root: Path, keys: list[str]) -> list[str]:
    """Return the images of a run: those that were there when it began. A warning names new ones, and those that are gone.

    Args:
        request: the arguments of ``run``.
        unfinished: the unfinished run that is resumed, or None.
        root: folder of the images that the request names.
        keys: these images.

    Raises:
        InputError: the unfinished run has other images than the request names.
    """
    if unfinished is None:
        return keys
    before, now = unfinished["root"], _written(root)
    advice = "name the same images, or choose another --output"
    if before != now:
        raise InputError(f"--resume: the images of the unfinished run are in {before}, found {now}; {advice}")
    named, of_run = set(keys), set(unfinished["keys"])
    gone = [key for key in unfinished["keys"] if key not in named]
    unnamed = [key for key in gone if (root / key).is_file()]
    if unnamed:
        n = number_of(len(unnamed), "image")
        raise InputError(f"--resume: --image and --split leave out {n} of the unfinished run, first: {unnamed[0]}; {advice}")
    own = [(request.output / name).resolve() for name in (ANNOTATED, COMPARED, REVIEW)]
    new = [key for key in keys if key not in of_run and not any((root / key).resolve().is_relative_to(folder) for folder in own)]
    _warn(gone, "no longer found, and listed in failed.csv")
    _warn(new, "new since the run began, and left out; a run of their own detects them")
    return list(unfinished["keys"])


def _warn(keys: list[str], what: str) -> None:
    if keys:
        names = ", ".join(keys[:MAX_NAMED])
        log.warning(f"--resume: {what}: {number_of(len(keys), 'image')} ({names}{' ..' if len(keys) > MAX_NAMED else ''})")


def _written(root: Path) -> str:
    return root.resolve().as_posix()


def open_run(request: RunRequest, unfinished: Unfinished | None, settings: dict[str, Any], root: Path, keys: list[str]) -> ResumableRun:
    """Open the journal of the unfinished run that is resumed, or start one. The output folder must be claimed.

    Args:
        request: the arguments of ``run``.
        unfinished: the unfinished run, or None.
        settings: as returned by `settings_of`.
        root: folder that the keys are relative to.
        keys: the images of the run.

    Raises:
        InputError: the unfinished run has another model or other settings, or there is another one than before the folder was claimed.
    """
    folder = request.output
    if not request.resume and has_finished_images(folder):
        _refuse(folder)
    if request.resume and read_head(folder) != unfinished:
        raise InputError(f"--resume: another run has written into {folder} meanwhile; look at its results, then run the command again")
    if unfinished is not None:
        _check_settings(unfinished["settings"], settings, folder)
        return ResumableRun(root, keys, RunJournal(folder), True)
    if request.resume:
        print(f"--resume: {folder} holds no unfinished run; a new one begins")
    return ResumableRun(root, keys, RunJournal.start(folder, {"settings": settings, "root": _written(root), "keys": keys}), False)


def settings_of(request: RunRequest, model: Path, loaded: LoadedModel, mode: str) -> dict[str, Any]:
    """Return what the results of an image depend on beside the image, by the flag that sets it; JSON-serialisable.

    Args:
        request: the arguments of ``run``.
        model: the model folder or Keras file.
        loaded: the model.
        mode: ``detect`` or ``classify``.
    """
    options = {f"--{name.replace('_', '-')}": getattr(request, name) for name in DETECTION_OPTIONS}
    version = importlib.metadata.version("malaria-cells")
    return {"--model": _content_of(model, loaded.engine), "--engine": loaded.engine, "--mode": mode, **options, VERSION: version}


def _content_of(model: Path, engine: str) -> str:
    """Return a hash of the files that define a model, as hexadecimal digits."""
    from malaria_cells.inference.model_description import ABOUT
    from malaria_cells.models.stored.checksums import network_files

    if model.is_dir():
        folders = [folder for folder in (model, model / engine) if (folder / ABOUT).is_file()]
        paths = [path for folder in folders for path in (folder / ABOUT, *network_files(folder))]
    else:
        paths = [path for path in (model, model.with_suffix(".json"), *(model.parent / name for name in BESIDE_BARE)) if path.is_file()]
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        digest.update(path.name.encode(errors="surrogateescape") + b"\0" + files.file_hash(path))
    return digest.hexdigest()


def _check_settings(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    differing = [
        f"{name} (its files differ)" if name == "--model" else f"{name} ({_said(before.get(name))}, now {_said(now.get(name))})"
        for name in dict.fromkeys((*before, *now))
        if before.get(name) != now.get(name)
    ]
    if differing:
        raise InputError(
            f"--resume: the unfinished run in {folder} has other settings: {', '.join(differing)}; repeat its settings, or choose another "
            "--output"
        )


def _said(value: object) -> str:
    return "not given" if value is None else value if isinstance(value, str) else excerpt(value)
