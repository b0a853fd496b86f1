"""Who may change a cluster while another run does, or was cut off."""

from datetime import UTC, datetime, timedelta

import pytest
from kubernetes import client as k8s

from barekube.lease import refusal

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def _spec(who: str, ago: int) -> k8s.V1LeaseSpec:
    renewed = NOW - timedelta(seconds=ago)
    return k8s.V1LeaseSpec(holder_identity=who, lease_duration_seconds=60, renew_time=renewed)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(None, id="nobody ever did"),
        pytest.param(_spec("", 1), id="the last run gave it back"),
        pytest.param(_spec("me@here", 1), id="my own run that was cut off"),
        pytest.param(_spec("you@there", 60), id="one that was not renewed in time"),
    ],
)
def test_a_cluster_that_nobody_changes_may_be_changed(spec: k8s.V1LeaseSpec | None) -> None:
    assert refusal(spec, "me@here", NOW) is None


def test_a_second_operator_is_told_who_is_first_and_how_long_to_wait() -> None:
    assert refusal(_spec("you@there", 15), "me@here", NOW) == (
        "you@there changes this cluster now; wait for that run to end, or 45 s if it was cut off,"
        " then run this again"
    )
