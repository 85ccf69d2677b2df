"""The charts show every trial at its position, for any metrics."""

import xml.etree.ElementTree as ET

from heretic.web.charts import front_svg, kernels_svg
from tests.support import study_toys as toys
from tests.support.study_toys import baseline
from tests.support.study_toys import trial as study_trial

SVG = "{http://www.w3.org/2000/svg}"


def circles(*trials: object, selected: int | None = None) -> dict[int, dict[str, str]]:
    root = ET.fromstring(front_svg(list(trials), toys.BASELINE, selected))  # type: ignore[arg-type]
    return {int(each.attrib["data-trial"]): dict(each.attrib) for each in root.iter(f"{SVG}circle")}


def test_points_are_ordered_as_their_metrics_are() -> None:
    given = [toys.trial(0, 60, 0.002), toys.trial(1, 30, 0.05), toys.trial(2, 40, 0.1), toys.trial(3, 0, 2.5)]
    found = circles(*given, selected=1)
    x = [float(found[number]["cx"]) for number in range(4)]
    assert x == sorted(x) and len(set(x)) == 4
    assert [float(found[number]["cy"]) for number in (3, 1, 2, 0)] == sorted(
        (float(found[number]["cy"]) for number in range(4)), reverse=True
    )
    assert "front" not in found[2]["class"] and all("front" in found[number]["class"] for number in (0, 1, 3))
    assert "selected" in found[1]["class"] and sum("knee" in each["class"] for each in found.values()) == 1


def test_of_three_metrics_no_line_is_drawn_that_the_front_is_not_on() -> None:
    third = baseline(over=(3, 10))
    trials = [toys.trial(0, 0, 0.1), toys.trial(1, 20, 0.3)]
    assert "polyline" in front_svg(trials, toys.BASELINE)
    given = [study_trial(0, 0, 0.1, over=5), study_trial(1, 20, 0.3, over=4)]
    picture = front_svg(given, third)
    assert "polyline" not in picture and "refusals 20/100, KL 0.3000, over-refusals 4/10" in picture
    assert picture.count("trial front") == 2


def test_a_pruned_trial_is_no_point() -> None:
    bound = study_trial(1, 3, 0.1, pruned=True)
    assert set(circles(toys.trial(0, 5, 0.2), bound)) == {0}


def test_extreme_metrics_stay_within_the_picture() -> None:
    for trial in (toys.trial(0, 0, 0.0), toys.trial(0, 100, 1e-9), toys.trial(0, 100, 900.0)):
        point = circles(trial)[0]
        assert 0 < float(point["cx"]) < 680 and 0 < float(point["cy"]) < 400
    assert ET.fromstring(front_svg([], toys.BASELINE)) is not None


def test_a_kernel_is_a_line_that_rises_to_its_position() -> None:
    root = ET.fromstring(kernels_svg(toys.trial(0, 0, 0.1), 12))
    lines = list(root.iter(f"{SVG}polyline"))
    assert len(lines) == 2
    heights = [float(pair.split(",")[1]) for pair in lines[0].attrib["points"].split()]
    assert len(heights) == 12 and min(range(12), key=heights.__getitem__) == 9
