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
