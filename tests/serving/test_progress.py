import io

from serving import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_elsewhere_than_on_a_terminal_a_line_comes_only_every_few_seconds():
    now, out = [0.0], io.StringIO()
    say = progress.lines(out, clock=lambda: now[0])
    for second in range(16):
        now[0] = float(second)
        say(f"row {second}", second / 16)
    assert out.getvalue().splitlines() == ["row 5: 31%", "row 10: 62%", "row 15: 94%"]


def test_a_terminal_shows_what_is_done_and_how_much_of_it():
    out = Terminal()
    with progress.shown(quiet=False, stream=out) as say:
        say("12 rows scored", 0.5)
    assert "12 rows scored" in out.getvalue()
    assert "50%" in out.getvalue()


def test_quiet_shows_nothing():
    out = Terminal()
    with progress.shown(quiet=True, stream=out) as say:
        say("12 rows scored", 0.5)
    assert out.getvalue() == ""
