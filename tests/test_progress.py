import io
import sys


def test_progress_on_a_terminal_is_a_bar(monkeypatch):
    from malaria_cells.base import progress

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(progress.progress(range(3), 3, "detecting", "image")) == [0, 1, 2]
    assert "detecting" in terminal.getvalue()
    assert "\r" in terminal.getvalue()


def test_progress_counts_the_units_of_each_item(monkeypatch, capsys):
    from malaria_cells.base import progress

    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    assert list(progress.progress([4, 1], 5, "detecting", "image", lambda n: n)) == [4, 1]
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == ["detecting: 4/5 images", "detecting: 5/5 images"]
