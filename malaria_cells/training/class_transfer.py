"""Which classes a new network shares with the network that it starts from."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from malaria_cells.data.labels import BACKGROUND, LabelSet
from malaria_cells.data.synonyms import means
from malaria_cells.training.start_model import StartModel


@dataclass(frozen=True)
class Classes:
    """The classes of the network that weights are copied from, and of the network that they are copied to.

    Attributes:
        before: class names of the old network, including the background class.
        now: class names of the new network, including the background class.
    """

    before: tuple[str, ...]
    now: tuple[str, ...]

    @cached_property
    def origins(self) -> dict[str, str]:
        """The old class of each new class that has one, in the order of the new classes.

        The old class has the same name or a synonym of it (RBC, red blood cell). A wrong guess does little harm, since the weights are
        only the start of a training; `describe_classes` reports it.
        """
        origins = {name: name for name in self.now if name in self.before}
        for name in self.now:
            meaning = None if name in origins else means(name, [old for old in self.before if old not in origins.values()])
            if meaning is not None:
                origins[name] = meaning
        return {name: origins[name] for name in self.now if name in origins}

    @property
    def kept(self) -> list[str]:
        """Classes of the new network that the old one has too."""
        return list(self.origins)

    @property
    def new(self) -> list[str]:
        """Classes of the new network that the old one lacks."""
        return [name for name in self.now if name not in self.origins]

    @property
    def gone(self) -> list[str]:
        """Classes of the old network that the new one lacks."""
        return [name for name in self.before if name not in self.origins.values()]

    @property
    def columns_before(self) -> list[int | None]:
        """Index of the old class of each new class; None if it has none."""
        return [self.before.index(self.origins[name]) if name in self.origins else None for name in self.now]

    @property
    def shares_labels(self) -> bool:
        """Whether the networks share a class besides the background class."""
        return any(name != BACKGROUND for name in self.kept)


def classes_of(start: StartModel, labels: LabelSet, n_classes: int) -> Classes:
    """Return the classes of a start model and of a training with `n_classes`, including the background class if there is one."""
    described = start.description
    before = (*described.labels.names, BACKGROUND) if described.has_background else described.labels.names
    return Classes(before, (*labels.names, BACKGROUND) if n_classes > len(labels) else labels.names)


def describe_classes(classes: Classes, folder: Path) -> str:
    """Return one line that says which classes are kept, new and removed."""
    kept = [new if new == old else f"{new} (as {old})" for new, old in classes.origins.items()]
    messages = [f"classes kept: {', '.join(kept)}" if classes.shares_labels else "no label in common, so the last layer is new"]
    messages += [f"new: {', '.join(classes.new)}"] if classes.new else []
    messages += [f"removed: {', '.join(classes.gone)}"] if classes.gone else []
    return f"fine-tuning {folder}: {'; '.join(messages)}"
