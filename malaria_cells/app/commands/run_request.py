"""The arguments of ``run``."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

# Options that change the results of an image. Those of scoring, report and review do not, and may differ where a run goes on.
DETECTION_OPTIONS = ("score_threshold", "nms", "nms_iou", "tta", "proposals", "cell_size", "labels", "input_divisor", "input_range")


@dataclass(frozen=True)
class RunRequest:
    """The arguments of ``run``. None means the model's setting; for `model` it means the shipped model."""

    image: str
    output: Path
    model: Path | None = None
    mode: str = "auto"
    annotations: Path | None = None
    ignore_labels: list[str] | None = None
    label_map: dict[str, str] | None = None
    annotated_labels: list[str] | None = None
    split: Path | None = None
    part: str = "test"
    score_threshold: float | None = None
    nms: str | None = None
    nms_iou: float | None = None
    tta: int | None = None
    proposals: str | None = None
    cell_size: float | None = None
    labels: list[str] | None = None
    input_divisor: float | None = None
    input_range: str | None = None
    review: int | None = None
    compare: bool = False
    engine: str = "auto"
    force: bool = False
    resume: bool = False

    def command_line(self, output: str | None = None, further: Sequence[str] = ()) -> str:
        """The command that repeats the run from its beginning, with all flags that differ from their defaults.

        Args:
            output: the output where it is an address; None: `output`.
            further: words of a run on a cluster.
        """
        words = ["python", "run.py", *further]
        for field in fields(self):
            value = output if field.name == "output" and output is not None else getattr(self, field.name)
            if field.name == "resume" or value is None or value == field.default or value is False:
                continue
            flag = "--" + field.name.replace("_", "-")
            text = _text(value)
            if value is True:
                words.append(flag)
            elif text.startswith("-"):  # argparse takes -1,1 for a flag
                words.append(f"{flag}={text}")
            else:
                words += [flag, text]
        return shlex.join(words)


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ",".join(f"{name}={label}" for name, label in value.items())
    return ",".join(value) if isinstance(value, list) else str(value)
