"""Images of single cells are shown as an image would show the cell."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.labels import LabelSet
from malaria_cells.data.single_cells import CLEAR_FIELD, as_in_image, is_cut_out


def disc(size=41, inside=(180, 120, 150), outside=(0, 0, 0), dot=None):
    rows, columns = np.ogrid[:size, :size]
    image = np.where(((rows - 20) ** 2 + (columns - 20) ** 2 <= 20**2)[..., None], inside, outside).astype(np.uint8)
    if dot is not None:
        image[18:22, 18:22] = dot
    return image


def test_black_around_a_cell_becomes_clear_field_and_black_within_it_stays():
    seen = as_in_image(disc(dot=(5, 5, 5)), 1.25)
    assert seen.shape == (51, 51, 3)
    assert (seen[0] == CLEAR_FIELD).all()
    assert (seen[5, 5] == CLEAR_FIELD).all()  # a corner of the image, black before
    assert seen[25, 25].tolist() == [5, 5, 5]
    assert seen[25, 12].tolist() == [180, 120, 150]
    assert not (seen.max(axis=2) == 0).any()


def test_a_cell_in_its_own_field_gets_more_of_that_field():
    seen = as_in_image(disc(outside=(200, 210, 190)), 1.25)
    assert (seen[0] == [200, 210, 190]).all()
    assert (seen[5:46, 5:46] == disc(outside=(200, 210, 190))).all()


def test_a_speck_at_the_border_of_a_cells_own_field_stays_what_it_is():
    image = disc(outside=(200, 210, 190))
    image[0, 20] = 0
    seen = as_in_image(image, 1.25)
    assert (seen[0] == [200, 210, 190]).all()
    assert (seen[5, 25] == 0).all()


@given(st.integers(1, 60), st.integers(1, 60), st.floats(0.5, 3))
def test_it_is_a_square_that_has_the_whole_image(height, width, context):
    image = np.full((height, width, 3), 100, dtype=np.uint8)
    seen = as_in_image(image, context)
    assert seen.shape[0] == seen.shape[1] == max(round(context * max(height, width)), height, width)
    assert (seen == 100).all()


def test_what_was_cut_out_is_told_by_its_corners():
    assert is_cut_out(disc())
    assert not is_cut_out(disc(outside=(200, 210, 190)))
    corner = disc(outside=(200, 210, 190))
    corner[:5, :5] = 0  # a dark corner of the microscope's field
    assert not is_cut_out(corner)


def test_thousands_of_single_cells_are_each_looked_at_a_few_times():
    """Whether all images are whole was asked anew for every image: 27,558 of NIH's took half a minute."""
    asked = []

    class Counted(AnnotatedImage):
        def __getattribute__(self, name):
            if name == "whole":
                asked.append(1)
            return super().__getattribute__(name)

    box, ids, ignore = np.array([[0, 0, 40, 30]], np.float32), np.zeros(1, np.int64), np.zeros(1, bool)
    images = tuple(Counted(str(i), Path(str(i)), (40, 30), str(i), box, ids, ignore, whole=True) for i in range(50))
    annotations = AnnotationSet(LabelSet(("cell",)), images)
    assert annotations.median_cell_size == 40
    assert annotations.whole
    assert len(asked) <= 100
