import math

from training.page.charts import Line, line_chart, scatter_chart


def _chart(*values: float, level: tuple[str, float] | None = None) -> str:
    line = Line("loss", list(enumerate(values, start=1)), "one")
    return line_chart("t", [line], x_name="epoch", y_name="loss", level=level)


def test_points_lie_where_their_values_say() -> None:
    chart = _chart(1.0, 0.5, 0.0)
    ys = [float(part.split('"')[0]) for part in chart.split('cy="')[1:]]
    assert ys[0] < ys[1] < ys[2]
    assert math.isclose(ys[1] - ys[0], ys[2] - ys[1], abs_tol=0.11)


def test_one_epoch_and_equal_values_make_a_chart() -> None:
    for values in ((0.5,), (0.5, 0.5), (0.0, 0.0)):
        assert "nan" not in _chart(*values)
        assert _chart(*values).count("<circle") == len(values)


def test_what_is_no_number_is_left_out() -> None:
    assert _chart(0.5, math.nan, 0.7).count("<circle") == 2
    assert _chart(math.nan) == ""
    assert scatter_chart("t", []) == ""


def test_a_level_far_away_does_not_flatten_the_lines() -> None:
    assert "baseline" in _chart(0.8, 0.9, level=("baseline", 0.7))
    assert "baseline" not in _chart(0.8, 0.9, level=("baseline", 0.1))
