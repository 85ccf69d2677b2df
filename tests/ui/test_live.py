"""The view on a terminal of 80 columns: what it says, and that it keeps to its width."""

import dataclasses
import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from heretic.events import WorkerState
from heretic.study.pareto import knee, pareto_front
from heretic.study.schema import TrialRecord
from heretic.ui.live import LAST_TRIALS, ROWS_OF_FRONT, LiveReporter
from heretic.ui.plot import front_plot
from tests.support.ui_toys import BASELINE, FRONT, state, trial

WIDTH = 80
LONG = [trial(1000 + number, number, 2.0 - number / 10) for number in range(20)]


def terminal() -> Console:
    return Console(file=io.StringIO(), width=WIDTH, height=40, force_terminal=True, color_system=None)


@pytest.fixture
def console() -> Console:
    return terminal()


def shown(console: Console) -> list[str]:
    """Every line that was ever drawn, over others too; none is wider than the terminal."""
    assert isinstance(console.file, io.StringIO)
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue()))
    assert max(cell_len(line) for line in lines) <= WIDTH
    return [line.rstrip() for line in lines if line.strip()]


def rendered(view: object) -> list[str]:
    """What a view looks like now."""
    console = terminal()
    console.print(view)
    return shown(console)


def folded(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())


def marked(lines: list[str]) -> list[str]:
    """Rows of the front's table that are marked as its knee."""
    return [line for line in lines if line.startswith("│ * │")]


def test_the_front_is_a_table_with_its_knee_marked(console: Console) -> None:
    LiveReporter(console).front(FRONT, FRONT[1], BASELINE)
    lines = shown(console)
    assert lines[0] == "Pareto front · baseline: 80/100 refusals · * knee"
    rows = [line for line in lines if "/100" in line and "│" in line]
    assert len(rows) == 3
    assert [row.split("│")[1].strip() for row in rows] == ["", "*", ""]
    assert [cell.strip() for cell in rows[1].split("│")[2:6]] == [
        "8", "4/100", "0.3000", "layer 7.0; attn 1.20 @ 9, mlp 1.20 @ 9",
    ]  # fmt: skip


def test_no_line_is_wider_than_the_terminal(console: Console) -> None:
    reporter = LiveReporter(console)
    reporter.say("word " * 100)
    reporter.say("x" * 300)
    reporter.warn("y" * 300)
    reporter.front(LONG, LONG[0], BASELINE)
    reporter.table("title " * 30, ("column " * 10, "other"), [("cell " * 40, "z" * 200)])
    with reporter.step("A very long title " * 10, 100) as progress:
        progress(50)
    with reporter.search(state(LONG), 200) as view:
        view.failed(3, "reason " * 40, state(LONG))
        assert len(rendered(view)) > 10
    shown(console)


def test_a_search_shows_trials_front_and_the_last_trials(console: Console) -> None:
    with LiveReporter(console).search(state([], 0, None), 200) as view:
        before = folded(rendered(view))
        assert "measuring the first trials" in before
        assert "Baseline: 80/100 refusals" in before
        assert "Ctrl+C stops and keeps all" in before
        assert "Pareto front" not in before
        view.rows(50)
        assert "0/200 50 of 40000 prompts" in folded(rendered(view))
        view.complete(trial(8, 4, 0.3), state())
        after = rendered(view)
    assert "3/200 600 of 40000 prompts" in folded(after)
    assert "1 h elapsed, 1 min 5 s left" in folded(after)
    assert after[-1] == "trial 8: refusals 4/100, KL 0.3000"
    assert len(marked(after)) == 1
    assert "4/100" in marked(after)[0]


def test_a_search_keeps_its_place(console: Console) -> None:
    """However many trials there are, the view does not grow out of the terminal."""
    heights = []
    with LiveReporter(console).search(state(LONG), 200) as view:
        for number in range(12):
            view.complete(trial(number, 4, 0.3), state(LONG, number))
            lines = rendered(view)
            heights.append(len(lines))
    assert heights[-1] == heights[LAST_TRIALS - 1] <= 39
    assert len([line for line in lines if line.startswith("trial ")]) == LAST_TRIALS
    assert len([line for line in lines if line.startswith("│")]) == ROWS_OF_FRONT


@pytest.mark.parametrize("place", range(20))
def test_of_a_long_front_the_part_around_the_knee_is_shown(place: int) -> None:
    front = [trial(number, number, 2.0 - number / 10) for number in range(20)]
    now = dataclasses.replace(state(front), best=front[place])
    with LiveReporter(terminal()).search(now, 200) as view:
        lines = rendered(view)
    assert len([line for line in lines if line.startswith("│")]) == ROWS_OF_FRONT
    assert len(marked(lines)) == 1
    assert f" {place}/100" in marked(lines)[0]


def test_a_failed_trial_is_shown_with_its_reason(console: Console) -> None:
    with LiveReporter(console).search(state(), 200) as view:
        view.failed(10, "the KL divergence is [nan]", state())
        assert "trial 10 failed: the KL divergence is [nan]" in rendered(view)


def test_a_step_ends_in_a_line(console: Console) -> None:
    reporter = LiveReporter(console)
    with reporter.step("Residuals", 400) as progress:
        progress(400)
    with reporter.step("Loading") as progress:
        progress(1)
    lines = shown(console)
    assert any(re.fullmatch(r"Residuals: 400 in \d+ s", line) for line in lines)
    assert any(re.fullmatch(r"Loading: \d+ s", line) for line in lines)


def test_brackets_are_shown_as_they_are(console: Console) -> None:
    """Names of models and directories may hold them; rich would take them for styles."""
    reporter = LiveReporter(console)
    reporter.say("models/[a]")
    reporter.warn("models/[b]")
    reporter.table("models/[c]", ("[d]",), [("[e]",)])
    assert all(f"[{letter}]" in folded(shown(console)) for letter in "abcde")


def test_no_figure_is_cut_off(console: Console) -> None:
    """Where a table fits neither way, each of its cells becomes a line."""
    columns = ["Trial", *(f"column {number}" for number in range(8))]
    rows = [[str(number), *["0.1234 (0.1111-0.2222)"] * 8] for number in range(12)]
    LiveReporter(console).table("KL", columns, rows)
    said = folded(shown(console))
    assert said.startswith("KL 0 column 0 0.1234 (0.1111-0.2222) column 1 0.1234")
    assert said.count("0.1234 (0.1111-0.2222)") == 96


def test_a_table_that_is_too_wide_is_turned_where_that_fits(console: Console) -> None:
    columns = ["Trial", *["heading-of-some-length"] * 6]
    LiveReporter(console).table("KL", columns, [["17", *["0.1234"] * 6], ["18", *["0.9999"] * 6]])
    lines = shown(console)
    heading = next(line for line in lines if "Trial" in line)
    assert "17" in heading and "18" in heading
    assert sum("heading-of" in line and "0.1234" in line and "0.9999" in line for line in lines) == 6


def test_no_word_of_a_table_is_cut(console: Console) -> None:
    columns = ("Trial", "Declined", "Markers", "Against baseline", "by markers", "Broken", "Over-refusal")
    row = ("1", "4/100 (2-10 %)", "6/100", "fewer (p < 0.001)", "fewer (p < 0.001)", "0", "0/60 (0-6 %)")
    for rows in ([row], [row] * 2, [row] * 4, [row] * 9):
        console = terminal()
        LiveReporter(console).table("Refusals", columns, rows)
        lines = shown(console)
        assert not any("…" in line for line in lines)
        assert sum(line.count("Over-refusal") for line in lines) >= 1


def test_names_and_values_have_no_heading(console: Console) -> None:
    LiveReporter(console).table("Devices", ("", ""), [("CPU", "2 cores"), ("GPU", "none")])
    assert shown(console) == ["Devices", "  CPU  2 cores", "  GPU  none"]


def test_colons_make_no_pictures(console: Console) -> None:
    LiveReporter(console).say("models/a:bug:b")
    assert shown(console) == ["models/a:bug:b"]


def test_brackets_in_the_title_of_a_running_step_are_shown(console: Console) -> None:
    with LiveReporter(console).step("Loading models/[f]", 10) as progress:
        progress(5)
    *running, ended = shown(console)
    assert ended.startswith("Loading models/[f]: 10 in")
    assert all("models/[f]" in line for line in running)


@pytest.mark.parametrize(("width", "height"), [(80, 12), (80, 18), (80, 24), (80, 30), (100, 36), (132, 43), (200, 60)])
def test_the_view_fits_terminals_of_many_sizes(width: int, height: int) -> None:
    small = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    now = dataclasses.replace(state(LONG), trials=LONG)
    with LiveReporter(small).search(now, 200) as view:
        for number in range(6):
            view.complete(trial(number, 4, 0.3), now)
        lines = small.render_lines(view, pad=False)
    text = ["".join(segment.text for segment in line) for line in lines]
    assert len(text) < height and max(map(cell_len, text)) <= width
    assert sum("★" in line for line in text) == (1 if height >= 22 else 0), "the plot, where there is room"
    assert any("│ * │" in line for line in text) and any(line.startswith("trial 5: ") for line in text)


def plotted(*trials: TrialRecord, height: int = 5) -> list[str]:
    front = pareto_front(trials, BASELINE)
    best = knee(front, BASELINE) if front else None
    return front_plot(trials, front, best, BASELINE, 40, height).plain.splitlines()


def place(lines: list[str], mark: str) -> list[tuple[int, int]]:
    return sorted((row, line.index(mark)) for row, line in enumerate(lines) if mark in line)


def test_the_plot_has_trials_where_their_metrics_say() -> None:
    lines = plotted(trial(0, 80, 0.001), trial(1, 40, 0.1), trial(2, 0, 10.0), trial(3, 60, 1.0))
    assert len(lines) == 7 and all(len(line) <= 40 for line in lines)
    assert place(lines, "●") == [(0, 6), (4, 39)]
    assert place(lines, "★") == [(2, 22)] and place(lines, "·")[0][0] == 1
    assert lines[-1].split() == ["0.001", "0.01", "0.1", "1", "10"]
    wide = front_plot([trial(0, 3, 0.5)], [trial(0, 3, 0.5)], None, BASELINE, 90, 5).plain.splitlines()
    assert "refusals, KL" in wide[-1] and len(wide[-1]) <= 90


def test_a_plot_of_extreme_metrics_keeps_its_size() -> None:
    for metrics in ((0, 0.0), (100, 1e-12), (100, 1e6)):
        lines = plotted(trial(0, *metrics))
        assert len(lines) == 7 and max(map(len, lines)) <= 40


def test_actors_are_named_with_what_they_do(console: Console) -> None:
    workers = [WorkerState(f"{number} on node", f"trial {number}", 0) for number in range(1, 9)]
    busy = dataclasses.replace(state(), workers=lambda: workers)
    with LiveReporter(console).search(busy, 10) as view:
        lines = rendered(view)
    [line] = [line for line in lines if "8 actors" in line]
    assert "trials a minute · 1 on node: trial 1 · 2 on node: trial 2" in line
