"""Renders a field of view: cells and dirt on a lit background, with the blur and noise of a camera."""

from dataclasses import dataclass

import cv2
import numpy as np

from malaria_cells.data.sample.cells import CHROMATIN, draw_cell
from malaria_cells.data.sample.shapes import Canvas

LABELS = ("red blood cell", "leukocyte", "gametocyte", "ring", "trophozoite", "schizont")
STAGES = ("ring", "trophozoite", "gametocyte", "schizont")
STAGE_FRACTIONS = (0.36, 0.26, 0.22, 0.16)  # of the infected cells, in the order of STAGES
SIZE_WH = (1024, 768)  # pixels, of an image
RADIUS = 36.0  # pixels, of a normal red cell
# Smallest distance of two centres, as a fraction of the sum of the radii: cells overlap, but do not hide each other.
MIN_DISTANCE = 0.68


@dataclass(frozen=True)
class Slide:
    """Properties that all fields of one slide share.

    Attributes:
        light: colour of the background, float32 (3,), 0 to 255.
        stain: optical density of a red cell, float32 (3,).
        parasitemia: fraction of infected red cells.
        crowding: mean number of cells in a field.
        blur: standard deviation of the blur in pixels.
    """

    light: np.ndarray
    stain: np.ndarray
    parasitemia: float
    crowding: float
    blur: float

    @staticmethod
    def draw(rng: np.random.Generator) -> "Slide":
        """Draw the properties of a slide."""
        light = np.array([198, 226, 208]) * rng.uniform(0.92, 1.06) + rng.normal(0, [8, 4, 7])
        red, green, blue = rng.uniform(0.18, 0.45), rng.uniform(0.55, 1.15), rng.uniform(0.25, 0.55)
        strength = rng.uniform(0.75, 1.15)
        return Slide(
            np.clip(light, 120, 250).astype(np.float32),
            (np.array([red, green, blue]) * strength).astype(np.float32),
            parasitemia=float(rng.uniform(0.02, 0.09)),
            crowding=float(rng.uniform(45, 100)),
            blur=float(rng.uniform(0.8, 1.5)),
        )


@dataclass(frozen=True)
class Smear:
    """A rendered field with its boxes and labels.

    Attributes:
        image: uint8 RGB (H, W, 3).
        boxes_xyxy: int64 (n, 4), pixels, right and bottom exclusive, inside the image.
        labels: the labels of the n boxes.
    """

    image: np.ndarray
    boxes_xyxy: np.ndarray
    labels: tuple[str, ...]


def render_smear(slide: Slide, rng: np.random.Generator, size_wh: tuple[int, int] = SIZE_WH, radius: float = RADIUS) -> Smear:
    """Render one field.

    Args:
        slide: properties of the slide.
        rng: source of everything else.
        size_wh: width and height in pixels.
        radius: radius of a normal red cell in pixels.
    """
    width, height = size_wh
    density = np.zeros((height, width, 3), dtype=np.float32)
    # `crowding` is the mean for a field of SIZE_WH with cells of RADIUS; scale it to this field's area in cells.
    relative_area = (width * height / radius**2) / (SIZE_WH[0] * SIZE_WH[1] / RADIUS**2)
    count = int(np.clip(rng.normal(slide.crowding, 12), 30, 120) * relative_area)
    names = _names(max(count, 1), slide.parasitemia, rng)
    boxes, labels = [], []
    for name, (x, y) in zip(names, _cell_centres(names, size_wh, radius, rng), strict=False):
        column, row = round(x), round(y)
        cell = draw_cell(name, radius, (x - column, y - row), slide.stain, rng)
        box = _add_cell(density, cell.density, cell.body, column, row)
        if box is not None:
            boxes.append(box)
            labels.append(name)
    _add_dirt(density, radius, rng)
    image = _image(density, slide, rng)
    return Smear(image, np.array(boxes, dtype=np.int64).reshape(-1, 4), tuple(labels))


def _names(count: int, parasitemia: float, rng: np.random.Generator) -> list[str]:
    infected = rng.binomial(count, parasitemia)
    stages = rng.choice(STAGES, size=infected, p=STAGE_FRACTIONS).tolist()
    leukocytes = ["leukocyte"] * int(rng.uniform() < 0.45)
    return leukocytes + stages + ["red blood cell"] * (count - infected)  # large cells first, while there is room


def _cell_centres(names: list[str], size_wh: tuple[int, int], radius: float, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Centres of the cells, one per name; fewer if there is no room left."""
    placed: np.ndarray = np.zeros((0, 3))
    for name in names:
        cell_radius = radius * (1.8 if name == "leukocyte" else 1.15 if name != "red blood cell" else 1.0)
        # Infected cells stay inside, since one that is cut off could not be recognised; healthy cells may be half outside.
        margin = 0.6 * cell_radius if name != "red blood cell" else -0.1 * cell_radius
        candidates = rng.uniform(margin, np.array(size_wh) - margin, size=(60, 2))
        if name == "red blood cell" and len(placed) and rng.uniform() < 0.45:  # cells cling to each other
            neighbours = placed[rng.integers(len(placed), size=60)]
            angle, distance = rng.uniform(0, 2 * np.pi, 60), (neighbours[:, 2] + cell_radius) * rng.uniform(MIN_DISTANCE, 1.05, 60)
            candidates = neighbours[:, :2] + np.stack([np.cos(angle), np.sin(angle)], axis=1) * distance[:, None]
            candidates = candidates[((candidates > margin) & (candidates < np.array(size_wh) - margin)).all(axis=1)]
        min_distance = 1.02 if name == "leukocyte" else MIN_DISTANCE if name == "red blood cell" else 0.85
        gap = np.hypot(*(candidates[:, None, :] - placed[None, :, :2]).transpose(2, 0, 1)) / (placed[:, 2] + cell_radius)
        free = candidates[(gap >= min_distance).all(axis=1)]
        if len(free):
            placed = np.vstack([placed, [*free[0], cell_radius]])
        elif name != "red blood cell":
            placed = np.vstack([placed, [*candidates[0], cell_radius]])
        else:
            break
    return [(float(x), float(y)) for x, y, _ in placed]


def _add_cell(field: np.ndarray, density: np.ndarray, body: np.ndarray, column: int, row: int) -> tuple[int, int, int, int] | None:
    """Add a cell's density to the field.

    Returns:
        The box of the cell's visible part, or None if at most a tenth is visible.
    """
    half = body.shape[0] // 2
    height, width = field.shape[:2]
    left, top = max(column - half, 0), max(row - half, 0)
    right, bottom = min(column + half + 1, width), min(row + half + 1, height)
    if right <= left or bottom <= top:
        return None
    part = np.s_[top - row + half : bottom - row + half, left - column + half : right - column + half]
    field[top:bottom, left:right] += density[part]
    visible = body[part] > 0.5
    if visible.sum() <= 0.1 * (body > 0.5).sum():
        return None
    rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
    return int(left + columns[0]), int(top + rows[0]), int(left + columns[-1] + 1), int(top + rows[-1] + 1)


def _add_dirt(density: np.ndarray, radius: float, rng: np.random.Generator) -> None:
    """Add platelets, stain precipitate and dust, which a detector must not mistake for cells or parasites."""
    height, width = density.shape[:2]
    kinds = ["platelet"] * rng.poisson(2.5) + ["speck"] * rng.poisson(3)
    for kind in kinds:
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        size = radius * (rng.uniform(0.2, 0.36) if kind == "platelet" else rng.uniform(0.03, 0.08))
        canvas = Canvas.around(size, 2.2, (0, 0))
        shape = canvas.disc((0, 0), 1.0, 6 if kind == "platelet" else 2) * np.clip(0.8 + 0.35 * canvas.noise(rng, 0.25), 0, 2)
        colour = CHROMATIN * rng.uniform(0.28, 0.5) if kind == "platelet" else np.array([1.2, 1.3, 1.1]) * rng.uniform(0.5, 1)
        _add_cell(density, (shape[..., None] * colour).astype(np.float32), shape, round(x), round(y))


def _image(density: np.ndarray, slide: Slide, rng: np.random.Generator) -> np.ndarray:
    height, width = density.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = x / width - rng.uniform(0.3, 0.7), y / height - rng.uniform(0.3, 0.7)
    light = 1 + rng.normal(0, 0.03) * x + rng.normal(0, 0.03) * y - rng.uniform(0.05, 0.2) * (x**2 + y**2)
    plasma = cv2.GaussianBlur(rng.standard_normal((height, width)).astype(np.float32), (0, 0), 25)
    light += 0.006 * plasma / plasma.std()
    colours = slide.light * light[..., None] * np.exp(-density)
    colours = cv2.GaussianBlur(colours, (0, 0), slide.blur)
    grain = cv2.GaussianBlur(rng.standard_normal((height, width, 3)).astype(np.float32), (0, 0), 0.6)
    return np.clip(colours + 2.2 * grain, 0, 255).astype(np.uint8)
