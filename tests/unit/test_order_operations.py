"""Who acts for the whole cluster, in a run in which hosts fail."""

from types import SimpleNamespace

import pytest
from pyinfra.context import ctx_host, ctx_inventory, ctx_state

from barekube.operations import order
from tests.unit.harness import FakeHost


def test_after_the_one_that_changes_the_cluster_has_failed_the_next_only_looks_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(order, "unwell", {})
    lost, first, second = (FakeHost(name, {}, {}) for name in ("cp-1", "cp-2", "w-1"))
    state = SimpleNamespace(is_executing=True, active_hosts={first, second})

    def asked(host: FakeHost) -> tuple[bool, bool]:
        with ctx_state.use(state), ctx_inventory.use([lost, first, second]), ctx_host.use(host):
            return order.leads(), order.acts_for_the_cluster()

    # One that was never reached holds nobody up.
    assert (asked(second), asked(first)) == ((False, False), (True, True))
    state.active_hosts.remove(first)
    assert asked(second) == asked(second) == (False, True)
    why = "cp-2 failed, so that this is not done; mend it, or --exclude it"
    assert second.noops == ["another host of this run does it", why, why]
    assert second.logs == [why]
    assert order.unwell == {(True, "w-1"): [why]}
