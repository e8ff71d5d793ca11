"""A row of the table: what was measured, beside what, and whether the target is met."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

AT_MOST, AT_LEAST = "<=", ">="
COMPARE: dict[str, Callable[[float, float], bool]] = {AT_MOST: operator.le, AT_LEAST: operator.ge}


@dataclass(frozen=True)
class Target:
    """What a row should reach.

    Attributes:
        comparison: `AT_MOST` or `AT_LEAST`.
        bound: the number that is compared with.
        of_value: whether our own value is compared, in the row's unit; otherwise the ratio to the peer is.
    """

    comparison: str
    bound: float
    of_value: bool = False


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: what was measured.
        unit: unit of `value` and `peer`, such as ``ms``.
        value: our figure, the median of the repeats; None if it was not measured.
        peer_name: what it is compared with; empty if there is no peer.
        peer: the peer's figure.
        ratio: median over the repeats of ours / peer for an upper target, of peer / ours ("times as fast") for a lower one.
        spread: lowest and highest ratio of the repeats; without a peer, lowest and highest value.
        target: what should be reached; None if the figure is for information.
        limit_name: the limit of the hardware, such as ``matrix product``; empty if none was measured.
        limit_share: fraction of that limit that is reached, 0 to 1.
        note: what a reader has to know beside the numbers.
        not_measured: why there is no figure; empty if there is one.
    """

    name: str
    unit: str = ""
    value: float | None = None
    peer_name: str = ""
    peer: float | None = None
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    target: Target | None = None
    limit_name: str = ""
    limit_share: float | None = None
    note: str = ""
    not_measured: str = ""
    repeats: int = field(default=0)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target or a figure."""
        if self.target is None:
            return None
        figure = self.value if self.target.of_value else self.ratio
        return None if figure is None else COMPARE[self.target.comparison](figure, self.target.bound)

    def to_json(self) -> dict[str, Any]:
        """The row as JSON holds it, with ``met``."""
        return asdict(self) | {"met": self.met}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Row":
        """Read what `to_json` wrote."""
        values = {key: value for key, value in content.items() if key != "met"}
        target = values.get("target")
        spread = values.get("spread")
        return cls(**values | {"target": Target(**target) if target else None, "spread": tuple(spread) if spread else None})


def compared(name: str, unit: str, ours: Sequence[float], peer: Sequence[float], peer_name: str, target: Target | None, **more: Any) -> Row:
    """A row of what took turns with a peer.

    The ratio of each round is that of two figures taken right after each other, so that a machine that gets slower changes both; the
    row has the median of these ratios, which is not always the ratio of the medians.

    Args:
        name: what was measured.
        unit: unit of both figures, of which less is better.
        ours: our figure in each round.
        peer: the peer's in each round, as many.
        peer_name: what it is compared with.
        target: what should be reached; with a lower bound, or without a target, the ratio is "times as fast as the peer".
        more: other attributes of `Row`.
    """
    is_upper = target is not None and target.comparison == AT_MOST
    ratios = [a / b if is_upper else b / a for a, b in zip(ours, peer, strict=True)]
    return Row(
        name,
        unit,
        median(ours),
        peer_name,
        median(peer),
        median(ratios),
        (min(ratios), max(ratios)),
        target,
        repeats=len(ratios),
        **more,
    )


def alone(name: str, unit: str, values: Sequence[float], target: Target | None, **more: Any) -> Row:
    """A row of a figure that is compared with a fixed target only."""
    return Row(name, unit, median(values), spread=(min(values), max(values)), target=target, repeats=len(values), **more)


def alternated(contenders: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Call each contender once a round and return its figures by name.

    Every other round goes backwards, so that no contender always runs after the same one.
    """
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeats):
        for name in list(contenders)[:: 1 if turn % 2 == 0 else -1]:
            figures[name].append(contenders[name]())
    return figures
