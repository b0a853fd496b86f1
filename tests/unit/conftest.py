"""What no unit test may share with a run that goes on beside it."""

from pathlib import Path

import pytest

from barekube import lease
from barekube.operations import order


@pytest.fixture(autouse=True)
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the runs of this account are, of which there is none beside the tests'."""
    directory = tmp_path / "runs"
    monkeypatch.setattr(lease, "RUNS", directory)
    return directory


@pytest.fixture(autouse=True)
def no_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operation that needs no API has looked for one, and there is none."""
    monkeypatch.setattr(order, "_none_to_see", [True])


@pytest.fixture(autouse=True)
def no_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    """No host has begun to change the cluster."""
    monkeypatch.setattr(order, "_leader", {})
