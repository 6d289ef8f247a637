"""Where documents may lie is decided in one place."""

from __future__ import annotations

import ast

from tests.house.tree import modules


def test_residency_has_one_door() -> None:
    """Placement, migration, grant and new store all ask it; none decides by itself."""
    found = [
        str(module.path)
        for module in modules()
        if module.path.parts[0] == "src"
        for call in ast.walk(module.tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] == "residency_violated"
    ]
    assert found == ["src/simples3dms/storage/stores/residency.py"]
