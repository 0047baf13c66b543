"""The metrics of a server in Prometheus' text format."""

from textrnn.sharing.request_metrics import Histogram, RequestMetrics


def test_a_histogram_counts_up_to_each_bound() -> None:
    histogram = Histogram((1, 2.5))
    for value in (0.5, 1, 2, 9):
        histogram.add(value)
    assert histogram.lines("size", "A size.") == [
        "# HELP size A size.",
        "# TYPE size histogram",
        'size_bucket{le="1"} 2',
        'size_bucket{le="2.5"} 3',
        'size_bucket{le="+Inf"} 4',
        "size_sum 12.5",
        "size_count 4",
    ]


def test_errors_are_answers_from_400_on() -> None:
    metrics = RequestMetrics()
    for code in (200, 200, 422, 503):
        metrics.add_request(code, 0.01)
    lines = metrics.text().splitlines()
    assert 'textrnn_requests_total{code="200"} 2' in lines
    assert "textrnn_errors_total 2" in lines
    assert "textrnn_request_seconds_count 4" in lines
    assert metrics.text().endswith("\n")
