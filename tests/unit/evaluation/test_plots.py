"""The picture of an evaluation."""

from matplotlib.figure import Figure

from textrnn.evaluation.figures import LengthBin
from textrnn.evaluation.plots import _lengths


def bins(*spans: tuple[int, int]) -> list[LengthBin]:
    return [LengthBin(shortest=a, longest=b, reviews=9, accuracy=0.9, low=0.8, high=1.0) for a, b in spans]


def test_a_group_with_longer_and_shorter_reviews_is_not_called_cut() -> None:
    for groups, where in (
        (bins((3, 200), (203, 440)), "in the last group,"),
        (bins((3, 200), (203, 440), (441, 900)), "in the last 2 groups,"),
        (bins((401, 500)), "in all groups,"),
    ):
        axes = Figure().subplots()
        _lengths(axes, groups, 400, 0.009)
        assert f"0.9% of the reviews, {where} have more\nthan 400 tokens and are cut to 400" in axes.get_xlabel()
    axes = Figure().subplots()
    _lengths(axes, bins((3, 400)), 400, 0.0)
    assert "cut" not in axes.get_xlabel()
