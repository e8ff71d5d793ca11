import numpy as np
import pytest

from malaria_cells.errors import InputError
from malaria_cells.labels import LabelSet


def test_ids_follow_the_order_and_ignored_are_minus_one(six_classes):
    assert six_classes.class_ids(["ring", "red blood cell", "difficult"], "f").tolist() == [3, 0, -1]
    assert six_classes.class_ids([], "f").dtype == np.int64


def test_unknown_category_lists_what_was_found_and_the_nearest(six_classes):
    with pytest.raises(
        InputError, match=r"f\.json: category 'Trophozoit' .*did you mean 'trophozoite'.*Found: Trophozoit, ring\. Expected: red blood cell"
    ):
        six_classes.class_ids(["ring", "Trophozoit"], "f.json")


def test_infected_cells_are_red_cells(six_classes):
    assert six_classes.is_red_cell.tolist() == [True, False, True, True, True, True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((("a", "a"),), "labels: 'a' is listed twice"),
        ((("a",), ("a",)), "ignore_labels: 'a' is in labels too"),
        ((("background",),), "reject class"),
        ((("ring",), (), ("rings",)), r"infected_labels: 'rings' is not in labels \(did you mean 'ring'\?\)"),
        ((("ring",), (), (), ("cell",)), "red_cell_labels: 'cell'"),
        (((),), "labels: found none"),
    ],
)
def test_contradictions(arguments, message):
    with pytest.raises(InputError, match=message):
        LabelSet(*arguments)
