"""Results of more images than are held in memory."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from malaria_cells.data.detections import Detections
from malaria_cells.results import held_results
from malaria_cells.results.held_results import COLUMNS, HeldResults
from malaria_cells.results.run_results import Detected, RunResults


def detections(n):
    rng = np.random.default_rng(n)
    columns = {"probabilities": rng.random((n, 7), dtype=np.float32), "counted_as": rng.integers(-1, 6, n), "names": ("a", "b")}
    found = Detections.from_boxes(rng.random((n, 4), dtype=np.float32), rng.integers(0, 6, n), rng.random(n, dtype=np.float32), **columns)
    return replace(found, judged=("known", n))


def test_results_beyond_those_in_memory_come_back_as_they_were():
    held, expected = HeldResults(in_memory=1), {f"{n}.png": detections(n) for n in (3, 0, 5, 2)}
    for key, result in expected.items():
        held[key] = result
    assert list(held) == list(expected)
    assert held["3.png"] is expected["3.png"]
    for key, result in expected.items():
        again = held[key]
        for name in COLUMNS:
            ours, theirs = getattr(again, name), getattr(result, name)
            np.testing.assert_array_equal(ours, theirs)
            assert (ours.dtype, ours.flags.writeable) == (theirs.dtype, True)
        assert (again.names, again.judged, len(again)) == (result.names, result.judged, len(result))
    held["0.png"] = detections(1)
    del held["5.png"]
    assert {key: len(result) for key, result in held.items()} == {"3.png": 3, "0.png": 1, "2.png": 2}


def test_memory_does_not_grow_with_the_images():
    held = HeldResults(in_memory=2)
    for n in range(10):
        held[str(n)] = detections(50)
    assert sum(isinstance(result, Detections) for result in held._held.values()) == 2


def test_several_threads_read_what_is_theirs():
    held, expected = HeldResults(in_memory=0), {str(n): detections(20 + n) for n in range(40)}
    for key, result in expected.items():
        held[key] = result

    def is_whole(key):
        return all(np.array_equal(getattr(held[key], name), getattr(expected[key], name)) for name in COLUMNS)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(is_whole, list(expected) * 10))


def test_probabilities_of_whole_images_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(held_results, "IN_MEMORY", 0)
    finished, probabilities = RunResults(), np.ones(3)
    finished.add("a.png", (4, 3), probabilities)
    finished.add("b.png", (4, 3), Detected(detections(2), None))
    assert finished.results["a.png"] is probabilities
    assert len(finished.results["b.png"]) == 2
    assert (finished.familiarity, finished.sizes_wh["a.png"]) == ({"b.png": None}, (4, 3))
