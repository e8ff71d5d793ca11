import threading
import time

from malaria_cells.base.parallel import MIN_WORKERS, PREFETCHED, cores, imap_ordered

WORKERS = max(MIN_WORKERS, cores())


def test_items_come_back_in_their_order_whatever_takes_longest():
    def slow_at_first(n: int) -> int:
        time.sleep(0.02 if n % WORKERS == 0 else 0)
        return n * n

    assert [(n, done.result()) for n, done in imap_ordered(slow_at_first, range(20))] == [(n, n * n) for n in range(20)]


def test_several_are_worked_on_at_once():
    together = threading.Barrier(WORKERS, timeout=30)
    assert len([done.result() for _, done in imap_ordered(lambda _: together.wait(), range(2 * WORKERS))]) == 2 * WORKERS


def test_no_more_than_a_few_are_in_memory():
    begun = []
    for n, done in imap_ordered(begun.append, range(100)):
        done.result()
        assert len(begun) <= n + WORKERS + PREFETCHED
    assert sorted(begun) == list(range(100))


def test_an_error_is_raised_in_its_turn_and_stops_no_other():
    def odd_only(n: int) -> int:
        if n % 2 == 0:
            raise ValueError(n)
        return n

    results = []
    for _, done in imap_ordered(odd_only, range(9)):
        try:
            results.append(done.result())
        except ValueError as error:
            results.append(str(error))
    assert results == ["0", 1, "2", 3, "4", 5, "6", 7, "8"]


def test_what_has_not_begun_when_the_reader_leaves_is_not_begun():
    begun = []

    def note(n: int) -> None:
        begun.append(n)
        time.sleep(0.01)

    working = imap_ordered(note, range(1000))
    next(working)
    working.close()
    time.sleep(0.1)
    assert len(begun) <= 2 * WORKERS + PREFETCHED
