"""Numbers in Prometheus' text format, whatever their labels are called."""

from __future__ import annotations

from simples3dms.telemetry.metrics import Gauge, render


def test_gauges_are_written_line_by_line_and_labels_escaped() -> None:
    gauges = [
        Gauge("one", "A number.\nOf a \\ kind.", [({}, 1.0), ({"store": 'a"b\\c\nd', "owner": "x"}, 2.5)]),
        Gauge("two", "Another.", [({}, 123456789012.0)]),
    ]
    assert render(gauges) == (
        "# HELP one A number.\\nOf a \\\\ kind.\n# TYPE one gauge\none 1.0\n"
        'one{owner="x",store="a\\"b\\\\c\\nd"} 2.5\n'
        "# HELP two Another.\n# TYPE two gauge\ntwo 1.23456789012e+11\n"
    )
