"""Photographs from file to decided cells, beside other detectors, an older version, and fewer or more cores."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.bench.contender import Contender, ContenderError
from benchmarks.bench.machine import matrix_product_rate
from benchmarks.bench.peers import OLD, exported, old_version, ultralytics_network
from benchmarks.bench.rows import AT_LEAST, AT_MOST, Row, Target, alternated, compared
from benchmarks.bench.settings import Settings, photographs, repeated

SIDE = 640  # pixels, of the peers' inputs
LABELS = ("red blood cell", "leukocyte", "gametocyte", "ring", "trophozoite", "schizont", "platelet")
NANO = {"yolov8n": "Ultralytics' YOLOv8n", "yolo26n": "Ultralytics' YOLO26n"}  # the one of docs/results.md, and the newest
MANY_CORES = 16
IN_TURN = ", in turn"
WAYS = {IN_TURN: False, ", at once": True}  # endings of the names of a peer that runs in both ways


@dataclass
class Field:
    """The contenders that take turns.

    Attributes:
        running: those that could start, by name.
        refused: why the others could not, or failed, by name.
        figures: milliseconds for each photograph, a figure a round, by name; empty until `measure` was called.
    """

    running: dict[str, Contender]
    refused: dict[str, str]
    figures: dict[str, list[float]]

    @classmethod
    def start(cls, stack: ExitStack, asked: dict[str, partial[Contender]]) -> "Field":
        """Start what can be started; `stack` ends them."""
        field = cls({}, {}, {})
        for name, make in asked.items():
            try:
                field.running[name] = stack.enter_context(make())
            except ContenderError as error:
                field.refused[name] = str(error)
        return field

    def measure(self, paths: Sequence[Path], settings: Settings, also_in_turn: Iterable[str] = ()) -> None:
        """Let all of them take turns; what comes first is not timed, as graphs are built then.

        Args:
            paths: photographs of a turn.
            settings: how many rounds there are.
            also_in_turn: names of those of ours that have one more turn a round, with one photograph after the other.
        """
        for name in list(self.running):
            try:
                self.running[name].turn(list(dict.fromkeys(paths))[:20])
            except ContenderError as error:
                self.refused[name] = str(error)
                del self.running[name]
        turns = {name: partial(_ms, contender, paths) for name, contender in self.running.items()}
        turns |= {
            f"{name}{IN_TURN}": partial(_ms, self.running[name], paths, in_turn=True) for name in also_in_turn if name in self.running
        }
        self.figures = alternated(turns, settings.few_repeats)

    def why_not(self, name: str) -> str:
        """Why there are no figures of a contender, or of any whose name begins so."""
        reasons = [reason for refused, reason in self.refused.items() if refused.startswith(name)]
        return "; ".join(dict.fromkeys(reasons)) or "it did not run"


def _ms(contender: Contender, paths: Sequence[Path], **options: bool) -> float:
    return contender.turn(paths, **options).ms


def detection(settings: Settings) -> Iterator[Row]:
    """Our engines beside Ultralytics' nano models, keras-cv's smallest YOLOV8, and version 9ede027."""
    different = photographs(settings)
    paths = repeated(different, settings.images)
    model = exported(settings)
    mine = {
        "ours, default engine": partial(Contender, "ours", model=model, engine=None),
        "ours, keras": partial(Contender, "ours", model=settings.model, engine="keras"),
    }
    asked = (
        mine
        | _ultralytics(settings)
        | {
            "keras-cv's YOLOV8 xs": partial(Contender, "keras_cv", side=SIDE, labels=LABELS),
            f"version {OLD}": partial(_old, settings),
        }
    )
    with ExitStack() as stack:
        field = Field.start(stack, asked)
        field.measure(paths, settings, mine)
    share = Limit.measured(settings, different[: 2 if settings.quick else 10])
    note = f"{len(paths)} of {len(different)} different photographs, three at once; the peers' weights are random"
    for name in mine:
        for peer, target in _targets().items():
            yield _row(name, peer, field, target, share, note)
    for name in mine:
        for title in NANO.values():
            yield _row(f"{name}{IN_TURN}", f"{title}{IN_TURN}", field, Target(AT_MOST, 1.0), share, "one photograph after the other")


def _targets() -> dict[str, Target]:
    nano = dict.fromkeys(NANO.values(), Target(AT_MOST, 1.0))
    return nano | {"keras-cv's YOLOV8 xs": Target(AT_MOST, 0.5), f"version {OLD}": Target(AT_MOST, 0.35)}


def _ultralytics(settings: Settings) -> dict[str, partial[Contender]]:
    """Each nano model in the two ways that one would run it; the row has the faster."""
    return {f"{title}{way}": partial(_nano, settings, name, at_once) for name, title in NANO.items() for way, at_once in WAYS.items()}


def _nano(settings: Settings, name: str, at_once: bool) -> Contender:
    network = ultralytics_network(settings, name, SIDE, len(LABELS))
    return Contender("ultralytics", network=network, side=SIDE, threads=settings.n_cores, at_once=at_once)


def _old(settings: Settings) -> Contender:
    """The older version with its own model."""
    folder = old_version(settings)
    return Contender("ours", package=folder, model=folder / "pretrained" / "vivax", engine="keras")


def _row(name: str, peer: str, field: Field, target: Target | None, share: "Limit", note: str) -> Row:
    title, figures = f"photograph, {name}", field.figures
    ways = [way for way in (peer, *(f"{peer}{end}" for end in WAYS)) if way in figures]
    if name not in figures or not ways:
        return Row(title, "ms", peer_name=peer, target=target, not_measured=field.why_not(peer if name in figures else name))
    best = min(ways, key=lambda way: median(figures[way]))
    return compared(title, "ms", figures[name], figures[best], best, target, note=note, **share.of(median(figures[name])))


@dataclass(frozen=True)
class Limit:
    """The arithmetic of a photograph, and how fast the hardware multiplies matrices.

    Attributes:
        operations: floating-point operations of our networks for a photograph, by Keras; 0 if they could not be counted.
        rate: floating-point operations a second of a matrix product.
    """

    operations: float
    rate: float

    @classmethod
    def measured(cls, settings: Settings, paths: Sequence[Path]) -> "Limit":
        """Count and measure."""
        try:
            with Contender("operations", model=settings.model) as counter:
                operations = counter.turn(paths).result / len(paths)
        except ContenderError:
            operations = 0.0
        return cls(operations, matrix_product_rate())

    def of(self, ms: float) -> dict[str, object]:
        """The attributes of a row about the limit."""
        if not self.operations:
            return {}
        return {"limit_name": f"matrix product, {self.rate / 1e9:.0f} GFLOP/s", "limit_share": self.operations / (ms / 1e3) / self.rate}


def cores(settings: Settings) -> Iterator[Row]:
    """The same on one core, and on many where they are at hand, beside two."""
    paths, model = repeated(photographs(settings), settings.images), exported(settings)
    one, many = Target(AT_LEAST, 0.55), Target(AT_LEAST, 5.0)
    if not settings.cores:
        yield Row("photograph, one core", "ms", target=one, not_measured="this system does not keep a process on chosen cores")
        return
    for engine in (None, "keras"):
        title = "default engine" if engine is None else engine
        make = partial(Contender, "ours", model=model if engine is None else settings.model, engine=engine)
        counts = {"one core": settings.all_cores[:1], "two cores": settings.all_cores[:2], "many cores": settings.all_cores[:MANY_CORES]}
        with ExitStack() as stack:
            field = Field.start(stack, {name: partial(make, cores=numbers) for name, numbers in counts.items() if _wanted(name, settings)})
            field.measure(paths, settings)
        yield _scaled(f"photograph, {title}, one core", "one core", field, one)
        if len(settings.all_cores) < MANY_CORES:
            reason = f"this machine has {len(settings.all_cores)} cores"
            yield Row(f"photograph, {title}, {MANY_CORES} cores", "ms", target=many, not_measured=reason)
        else:
            yield _scaled(f"photograph, {title}, {MANY_CORES} cores", "many cores", field, many)


def _wanted(name: str, settings: Settings) -> bool:
    return name != "many cores" or len(settings.all_cores) >= MANY_CORES


def _scaled(title: str, name: str, field: Field, target: Target) -> Row:
    for needed in (name, "two cores"):
        if needed not in field.figures:
            return Row(title, "ms", peer_name="itself on two", target=target, not_measured=field.why_not(needed))
    ours, two = field.figures[name], field.figures["two cores"]
    return compared(title, "ms", ours, two, "itself on two", target, note="the ratio is that of the speeds")
