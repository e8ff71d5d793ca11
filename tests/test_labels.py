import logging
import re
from dataclasses import replace

import numpy as np
import pytest

from malaria_cells.base.errors import InputError
from malaria_cells.data.labels import IN_RUN, LabelSet, warn_of_meanings, warn_of_uncounted
from malaria_cells.data.synonyms import likely, plain


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
        ((("background",),), "background class"),
        ((("ring",), (), ("rings",)), r"infected_labels: 'rings' is not in labels \(did you mean 'ring'\?\)"),
        ((("ring",), (), (), ("cell",)), "red_cell_labels: 'cell'"),
        (((),), "labels: the list is empty"),
    ],
)
def test_contradictions(arguments, message):
    with pytest.raises(InputError, match=message):
        LabelSet(*arguments)


def test_mapped_categories_have_the_ids_of_what_they_stand_for(six_classes):
    mapped = replace(six_classes, label_map=(("RBC", "red blood cell"), ("odd", "difficult")))
    assert mapped.class_ids(["RBC", "ring", "odd"], "f").tolist() == [0, 3, -1]
    assert (repr(mapped), mapped) == (repr(six_classes), six_classes)  # what stores are named by
    with pytest.raises(InputError, match=r"label_map: 'x' stands for 'red blod cell', which is in neither .*did you mean 'red blood cell'"):
        replace(six_classes, label_map=(("x", "red blod cell"),))


def test_a_likely_meaning_is_asked_for_by_what_the_command_has(six_classes):
    with pytest.raises(InputError) as refused:
        six_classes.class_ids(["RBC", "WBC", "platelet"], "f.json")
    assert "add label_map: {RBC: red blood cell, WBC: leukocyte}" in str(refused.value)
    assert "Add it to labels, or to ignore_labels" in str(refused.value)
    with pytest.raises(InputError) as refused:
        replace(six_classes, wording=IN_RUN).class_ids(["RBC", "WBC", "platelet"], "f.json")
    assert "add --label-map 'RBC=red blood cell, WBC=leukocyte'" in str(refused.value)
    assert "Add --ignore-labels 'platelet'" in str(refused.value)
    assert "ignore_labels" not in str(refused.value)


def test_a_message_stays_short_whatever_the_names(six_classes):
    with pytest.raises(InputError) as refused:
        six_classes.class_ids([f"class {i}" + "x" * 300 for i in range(5000)], "f.json")
    assert len(str(refused.value)) < 3000
    assert "and 4980 more" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("RBC", "red blood cell"),
        ("Red_Blood-Cells", "red blood cell"),
        ("RedBloodCell", "red blood cell"),
        ("erythrocytes", "red blood cell"),
        ("uninfected", "red blood cell"),
        ("WBCs", "leukocyte"),
        ("White blood cell", "leukocyte"),
        ("trophs", "trophozoite"),
        ("RINGS", "ring"),
        ("Schizonts", "schizont"),
        ("gametocytes", "gametocyte"),
        ("trophozoit", "trophozoite"),
        ("platelet", None),
        ("dog", None),
    ],
)
def test_usual_names_of_the_field(name, meant):
    assert likely(name, ["red blood cell", "leukocyte", "gametocyte", "ring", "trophozoite", "schizont"]) == meant


def test_another_cell_is_no_misspelling():
    assert likely("leukocyte", ["gametocyte", "ring"]) is None
    assert plain("class") == "class"


def test_labels_that_differ_only_in_writing_are_asked_about(caplog):
    with caplog.at_level(logging.WARNING):
        LabelSet(("Ring", "ring", "trophozoite")).class_ids(["Ring", "ring", "ring", "trophozoite"], "f.json")
    assert "f.json: 'Ring' (1 label), 'ring' (2 labels) differ in spelling alone" in caplog.text
    assert "add label_map: {Ring: ring}" in caplog.text
    caplog.clear()
    LabelSet(("ring",), label_map=(("Ring", "ring"),)).class_ids(["Ring", "ring"], "f.json")
    assert not caplog.records


@pytest.mark.parametrize(
    ("labels", "by_name", "message"),
    [
        (
            LabelSet(("cell", "Rings")),
            True,
            "none of cell, Rings counts as infected.* Is 'Rings' infected\\? Name the infected in infected_labels",
        ),
        (LabelSet(("cell",)), True, "none of cell counts as infected"),
        (LabelSet(("ring", "Trophozoite"), infected=("ring",)), True, "ring count as infected, Trophozoite not"),
        (LabelSet(("RBC", "ring"), infected=("ring",)), True, "is 'RBC' a red cell"),
        (LabelSet(("cell",)), False, None),
        (LabelSet(("red blood cell", "ring"), infected=("ring",), red_cells=("red blood cell",)), True, None),
    ],
)
def test_meanings_that_labels_do_not_have(caplog, labels, by_name, message):
    with caplog.at_level(logging.WARNING):
        warn_of_meanings(labels, by_name, by_name)
    assert [bool(message and re.search(message, r.message)) for r in caplog.records] == [True] * bool(message)


def test_a_model_that_counts_no_infection_is_said_to(caplog):
    warn_of_uncounted(LabelSet(("Ring", "x")), "--model m")
    assert "--model m: none of its labels counts as infected, though 'Ring' may be meant so" in caplog.text
    caplog.clear()
    warn_of_uncounted(LabelSet(("cat",)), "m")
    warn_of_uncounted(LabelSet(("Ring",), infected=("Ring",)), "m")
    assert not caplog.records
