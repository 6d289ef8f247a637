"""Numbers as Prometheus reads them: its text format, version 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Gauge:
    """A number that goes up and down: what it is, and its values, each by its labels."""

    name: str
    meaning: str
    values: Sequence[tuple[Mapping[str, str], float]]


def render(gauges: Iterable[Gauge]) -> str:
    """All of them, in their order."""
    lines: list[str] = []
    for gauge in gauges:
        lines.append(f"# HELP {gauge.name} {gauge.meaning.translate(_IN_HELP)}")
        lines.append(f"# TYPE {gauge.name} gauge")
        for labels, value in gauge.values:
            given = ",".join(f'{name}="{text.translate(_IN_LABEL)}"' for name, text in labels.items())
            lines.append(f"{gauge.name}{{{given}}} {value:.10g}" if given else f"{gauge.name} {value:.10g}")
    return "".join(f"{line}\n" for line in lines)


_IN_HELP: Final = str.maketrans({"\\": r"\\", "\n": r"\n"})
_IN_LABEL: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
