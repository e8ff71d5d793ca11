"""Draws each class of cell with its morphology in a Giemsa-stained thin smear of *P. vivax*.

The morphology follows the WHO's Basic Malaria Microscopy, part I (2nd ed. 2010), learning unit 8: rings with one chromatin dot;
amoeboid trophozoites in enlarged, stippled cells; schizonts of 12 to 24 merozoites around clumped pigment; round gametocytes that
fill an enlarged cell, with scattered pigment; leukocytes with a lobed nucleus.
"""

from dataclasses import dataclass

import numpy as np

from malaria_cells.data.sample.shapes import Canvas, outline

# Optical densities in red, green and blue of the dyes at full strength.
CHROMATIN = np.array([0.95, 2.0, 0.75], dtype=np.float32)  # red-purple
CYTOPLASM = np.array([0.62, 0.52, 0.16], dtype=np.float32)  # blue
PIGMENT = np.array([0.55, 0.85, 1.5], dtype=np.float32)  # yellow-brown
NUCLEUS = np.array([1.0, 2.1, 0.62], dtype=np.float32)  # dark violet, of leukocytes


@dataclass(frozen=True)
class DrawnCell:
    """One drawn cell, before it is added to a field of view.

    Attributes:
        density: float32 (n, n, 3), optical density added to the field around the cell's centre.
        body: float32 (n, n), opacity of the cell's area; its extent is the cell's box.
    """

    density: np.ndarray
    body: np.ndarray


def draw_cell(label: str, radius: float, offset_xy: tuple[float, float], stain: np.ndarray, rng: np.random.Generator) -> DrawnCell:
    """Draw one cell.

    Args:
        label: one of the six classes.
        radius: radius of a normal red cell of this field, in pixels.
        offset_xy: position of the centre within its pixel, -0.5 to 0.5.
        stain: optical density of a red cell on this slide, (3,).
        rng: source of the variation between cells.
    """
    size = {"red blood cell": 1.0, "ring": 1.03, "trophozoite": 1.2, "schizont": 1.22, "gametocyte": 1.25, "leukocyte": 1.75}[label]
    radius = radius * size * rng.normal(1, 0.05)
    canvas = Canvas.around(radius, 1.5, offset_xy)
    if label == "leukocyte":
        return _leukocyte(canvas, rng)
    distance, angle = canvas.polar()
    edge = outline(angle, rng, wobble=0.035 if label == "red blood cell" else 0.05, stretch=abs(rng.normal(0, 0.12)))
    depth = distance / edge
    body = canvas.inside((depth - 1) * edge)
    infected = label != "red blood cell"
    haemoglobin = {"red blood cell": 1.0, "ring": 0.95, "trophozoite": 0.72, "schizont": 0.62, "gametocyte": 0.6}[label]
    density = _haemoglobin(canvas, depth, body, rng, pallor_allowed=not infected or label == "ring")[..., None] * stain * haemoglobin
    parasite = {"ring": _ring, "trophozoite": _trophozoite, "schizont": _schizont, "gametocyte": _gametocyte}.get(label)
    if parasite is not None:
        density = density + parasite(canvas, body, rng) * rng.uniform(0.85, 1.15)
    return DrawnCell(density.astype(np.float32), body)


def _haemoglobin(canvas: Canvas, depth: np.ndarray, body: np.ndarray, rng: np.random.Generator, pallor_allowed: bool) -> np.ndarray:
    pallor = np.clip(rng.normal(0.35, 0.2), 0, 0.75) if pallor_allowed else 0.05
    centre = rng.normal(0, 0.06, 2)
    dip = np.exp(-((canvas.polar((centre[0], centre[1]))[0] / rng.uniform(0.35, 0.5)) ** 2))
    thickness = 1 - pallor * dip + 0.12 * np.exp(-(((depth - 0.9) / 0.08) ** 2))  # the edge refracts light
    return body * thickness * rng.normal(1, 0.07) * (1 + 0.02 * canvas.noise(rng, 0.1))


def _spot_in_cell(rng: np.random.Generator, max_distance: float) -> tuple[float, float]:
    angle, distance = rng.uniform(0, 2 * np.pi), max_distance * np.sqrt(rng.uniform())
    return float(distance * np.cos(angle)), float(distance * np.sin(angle))


def _ring(canvas: Canvas, body: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    centre = _spot_in_cell(rng, 0.42)
    distance, angle = canvas.polar(centre)
    size, width = rng.uniform(0.24, 0.36), rng.uniform(0.045, 0.08)
    loop = size * outline(angle, rng, wobble=0.08, stretch=rng.uniform(0, 0.35))
    thread = canvas.inside(np.abs(distance - loop) - width, 2) * (0.75 + 0.25 * np.cos(angle - rng.uniform(0, 2 * np.pi)))
    vacuole = canvas.inside(distance - loop + width, 2)
    total = thread[..., None] * CYTOPLASM * 1.3 - vacuole[..., None] * 0.05
    first_angle = rng.uniform(0, 2 * np.pi)
    for k in range(1 if rng.uniform() < 0.85 else 2):
        dot_angle = first_angle + k * rng.uniform(0.6, 1.2)
        dot = canvas.disc((centre[0] + size * np.cos(dot_angle), centre[1] + size * np.sin(dot_angle)), rng.uniform(0.085, 0.125), 2)
        total = total + dot[..., None] * CHROMATIN
    return total * body[..., None]


def _stippling(canvas: Canvas, body: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Schueffner's dots, fine pink grains all over the cell."""
    grains = np.clip(canvas.noise(rng, 0.035) - 0.7, 0, 1.5) * strength
    return (grains * body)[..., None] * np.array([0.1, 0.55, 0.25], dtype=np.float32)


def _pigment(canvas: Canvas, mask: np.ndarray, rng: np.random.Generator, count: int, spread: float) -> np.ndarray:
    total = np.zeros((*mask.shape, 3), dtype=np.float32)
    centre = _spot_in_cell(rng, 0.25)
    for _ in range(count):
        offset = rng.normal(0, spread, 2)
        grain = canvas.disc((centre[0] + offset[0], centre[1] + offset[1]), rng.uniform(0.025, 0.055), 2)
        total += grain[..., None] * PIGMENT * 0.8
    return total * mask[..., None]


def _trophozoite(canvas: Canvas, body: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    centre = np.array(_spot_in_cell(rng, 0.2))
    blob = np.zeros_like(body)
    for _ in range(rng.integers(4, 7)):  # pseudopods, as overlapping lumps
        lump = centre + rng.normal(0, 0.27, 2)
        blob += np.exp(-((canvas.polar((lump[0], lump[1]))[0] / rng.uniform(0.14, 0.26)) ** 2))
    blob = np.clip((blob + 0.12 * canvas.noise(rng, 0.1) - 0.45) * 6, 0, 1)
    hole = centre + rng.normal(0, 0.12, 2)
    blob *= 1 - 0.85 * canvas.disc((hole[0], hole[1]), rng.uniform(0.1, 0.18), 3)
    nucleus = centre + rng.normal(0, 0.22, 2)
    chromatin = canvas.inside(
        canvas.polar((nucleus[0], nucleus[1]))[0]
        - rng.uniform(0.12, 0.18) * outline(canvas.polar((nucleus[0], nucleus[1]))[1], rng, 0.1, 0.3),
        2,
    )
    total = blob[..., None] * CYTOPLASM * rng.uniform(0.8, 1.15) + chromatin[..., None] * CHROMATIN * 0.9
    return (total + _pigment(canvas, blob, rng, int(rng.integers(3, 9)), 0.25)) * body[..., None] + _stippling(canvas, body, rng, 0.5)


def _schizont(canvas: Canvas, body: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    count = int(rng.integers(10, 23))
    turn = rng.uniform(0, 2 * np.pi)
    total = np.zeros((*body.shape, 3), dtype=np.float32)
    for i in range(count):  # sunflower spacing, for evenly packed merozoites
        centre_distance = 0.82 * np.sqrt((i + 0.9) / count)
        angle = turn + i * 2.39996 + rng.normal(0, 0.12)
        x, y = centre_distance * np.cos(angle) + rng.normal(0, 0.03), centre_distance * np.sin(angle) + rng.normal(0, 0.03)
        total += canvas.disc((x, y), 0.15, 4)[..., None] * CYTOPLASM * 0.55
        distance, merozoite_angle = canvas.polar((x, y))
        total += canvas.inside(distance - rng.uniform(0.07, 0.1) * outline(merozoite_angle, rng, 0.05, 0.4), 2)[..., None] * CHROMATIN * 0.9
    return total * body[..., None] + _pigment(canvas, body, rng, int(rng.integers(10, 18)), 0.08)


def _gametocyte(canvas: Canvas, body: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    distance, angle = canvas.polar()
    plasm = canvas.inside(distance - 0.9 * outline(angle, rng, 0.03, 0.05), 3) * (1 + 0.12 * canvas.noise(rng, 0.06))
    female = rng.uniform() < 0.6
    tint = CYTOPLASM * 0.75 + CHROMATIN * 0.05 if female else CYTOPLASM * 0.45 + CHROMATIN * 0.12
    spot = _spot_in_cell(rng, 0.5 if female else 0.15)
    spot_distance, spot_angle = canvas.polar(spot)
    chromatin = canvas.inside(spot_distance - (0.2 if female else 0.34) * outline(spot_angle, rng, 0.1, 0.3), 5)
    total = plasm[..., None] * tint + chromatin[..., None] * CHROMATIN * (0.65 if female else 0.35)
    return (total + _pigment(canvas, body, rng, int(rng.integers(12, 26)), 0.4)) * body[..., None]


def _leukocyte(canvas: Canvas, rng: np.random.Generator) -> DrawnCell:
    distance, angle = canvas.polar()
    body = canvas.inside(distance - outline(angle, rng, 0.03, 0.06), 4)
    grains = np.clip(0.75 + 0.25 * canvas.noise(rng, 0.04), 0.2, 1.6)
    density = (body * grains)[..., None] * np.array([0.16, 0.3, 0.14], dtype=np.float32)
    lobes = int(rng.integers(2, 5))
    nucleus = np.zeros_like(body)
    turn, centre = rng.uniform(0, 2 * np.pi), np.array(_spot_in_cell(rng, 0.12))
    for i in range(lobes):  # lobes on an arc, each touching its neighbours
        bend = turn + (i - (lobes - 1) / 2) * rng.uniform(0.8, 1.15)
        x, y = centre + 0.36 * np.array([np.cos(bend), np.sin(bend)])
        lobe_distance, lobe_angle = canvas.polar((x, y))
        nucleus = np.maximum(nucleus, canvas.inside(lobe_distance - rng.uniform(0.27, 0.36) * outline(lobe_angle, rng, 0.08, 0.2), 4))
    texture = 1 + 0.1 * canvas.noise(rng, 0.08)
    return DrawnCell((density + (nucleus * texture)[..., None] * NUCLEUS).astype(np.float32), body)
