"""Steps that use the API, while it does not answer as it should."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException
from pyinfra.api import FunctionCommand
from pyinfra.context import ctx_host, ctx_inventory, ctx_state
from urllib3.exceptions import ProtocolError

import barekube.api
from barekube import tokens
from barekube.operations import kubeadm, order, verify
from tests.unit.harness import FakeHost, home

LATE = ApiException(status=500, reason="etcdserver: request timed out")


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock of one hand, which waiting moves on."""
    passed = [0.0]

    def sleep(more: float) -> None:
        passed[0] += more

    clock = SimpleNamespace(monotonic=lambda: passed[0], sleep=sleep)
    monkeypatch.setattr(order, "time", clock)
    monkeypatch.setattr(order, "state", SimpleNamespace(is_executing=False))
    monkeypatch.setattr(order, "host", SimpleNamespace(name="n-1"))
    return passed


def run(function: Callable[..., bool]) -> tuple[bool, list[str]]:
    """What pyinfra gets from a step of an operation, and what the user reads."""
    said: list[str] = []
    (step,) = order.answering(step for step in [FunctionCommand(function, (), {})])
    host = SimpleNamespace(log=said.append)
    return step.execute(SimpleNamespace(), host, {}), said  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "failure", [LATE, ApiException(status=409, reason="Conflict"), ProtocolError("cut off")]
)
def test_a_step_goes_on_after_a_passing_failure_of_the_api(
    seconds: list[float], failure: Exception
) -> None:
    failures = [failure, failure]

    def step(state: object, host: object) -> bool:
        if failures:
            raise failures.pop()
        return True

    assert run(step) == (True, [])
    assert seconds == [2]


@pytest.mark.parametrize(
    ("failure", "waited", "sentence"),
    [
        (LATE, True, "the API answers 500 etcdserver: request timed out"),
        (ApiException(status=403, reason="Forbidden"), False, "the API answers 403 Forbidden"),
    ],
)
def test_a_failure_that_lasts_fails_the_step_with_a_sentence(
    seconds: list[float], failure: Exception, waited: bool, sentence: str
) -> None:
    def step(state: object, host: object) -> bool:
        raise failure

    said = [f"{sentence}; see whether its control planes run, then run again"]
    assert run(step) == (False, said)
    assert (seconds[0] > 0) is waited


@pytest.mark.parametrize(("failures", "done"), [(3, True), (4, False)])
def test_what_has_worked_for_long_is_given_its_minute_again_but_not_for_ever(
    seconds: list[float], failures: int, done: bool
) -> None:
    left = [LATE] * failures

    def step(state: object, host: object) -> bool:
        seconds[0] += 90
        if left:
            raise left.pop()
        return True

    assert run(step)[0] is done


@pytest.mark.parametrize("operation", [kubeadm.tokens_deleted, verify.made, verify.removed])
def test_what_ends_a_run_says_so_where_etcd_has_lost_its_majority(
    seconds: list[float],
    monkeypatch: pytest.MonkeyPatch,
    operation: Any,  # noqa: ANN401
) -> None:
    """A control plane that loses its power in its join takes the majority with it."""

    def late(*_: object, **__: object) -> None:
        raise ApiException(status=504, reason="Gateway Timeout")

    api = SimpleNamespace(core=SimpleNamespace(delete_namespaced_secret=late))
    monkeypatch.setattr(kubeadm, "connect", lambda cluster: (api, ""))
    monkeypatch.setattr(barekube.api, "connect", late)
    monkeypatch.setattr(tokens, "_known", [("a.b", 0.0)])
    first = FakeHost("cp-1", {}, {})
    state: Any = SimpleNamespace(is_executing=True, active_hosts=[first])
    monkeypatch.setattr(order, "state", state)
    monkeypatch.setattr(order, "host", first)
    given = [home()] if operation is not verify.made else [home(), "directory", {}]
    with ctx_state.use(state), ctx_inventory.use([first]), ctx_host.use(first):
        (step,) = operation._inner(*given)
        assert step.execute(state, first, {}) is False
    said = "the API answers 504 Gateway Timeout; see whether its control planes run, then run again"
    assert first.logs[-1] == said
