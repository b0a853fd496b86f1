"""One run at a time changes the cluster: a Lease in kube-system says whose."""

import contextlib
import getpass
import socket
from datetime import UTC, datetime, timedelta

import gevent
from gevent.lock import RLock
from kubernetes import client as k8s
from kubernetes.client.exceptions import ApiException
from pyinfra import state
from pyinfra.api.state import BaseStateCallback, State

from barekube.api import API_ERRORS, Api, coordination, found, opened

NAME, SPACE = "barekube", "kube-system"
_SECONDS = 60
_lock = RLock()
_held: set[str] = set()


def holder() -> str:
    """user@host of this run."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def refusal(spec: k8s.V1LeaseSpec | None, own: str, now: datetime) -> str | None:
    """A sentence if somebody else's run holds the Lease and has renewed it in time."""
    if spec is None or not spec.holder_identity or spec.holder_identity == own:
        return None
    end = spec.renew_time + timedelta(seconds=spec.lease_duration_seconds)
    if end <= now:
        return None
    return (
        f"{spec.holder_identity} changes this cluster now; wait for that run to end, or"
        f" {(end - now).total_seconds():.0f} s if it was cut off, then run this again"
    )


def take(api: Api) -> str | None:
    """Hold the Lease until this run ends; a sentence if another run does. Asked once a run."""
    with _lock:
        if _held:
            return None
        own = holder()
        leases = coordination(api)
        there = found(leases.read_namespaced_lease, NAME, SPACE)
        now = datetime.now(UTC)
        if wrong := refusal(there and there.spec, own, now):
            return wrong
        spec = k8s.V1LeaseSpec(
            holder_identity=own, lease_duration_seconds=_SECONDS, acquire_time=now, renew_time=now
        )
        try:
            if there is None:
                metadata = k8s.V1ObjectMeta(name=NAME)
                leases.create_namespaced_lease(SPACE, k8s.V1Lease(metadata=metadata, spec=spec))
            else:
                # Its resourceVersion lets one of two win.
                there.spec = spec
                leases.replace_namespaced_lease(NAME, SPACE, there)
        except ApiException as error:
            if error.status == 409:
                return "another run has just begun to change this cluster; run this again later"
            raise
        _held.add(own)
        gevent.spawn(_renew)
        state.add_callback_handler(_End())  # type: ignore[no-untyped-call]
        return None


class _End(BaseStateCallback):
    """Gives the Lease back after the run's last operation; a run that ends before lets it expire,
    which hinders nobody but another operator."""

    @staticmethod
    def operation_end(state: State, op_hash: str) -> None:
        if op_hash == state.get_op_order()[-1]:  # type: ignore[no-untyped-call]
            _patch({"holderIdentity": ""})
            _held.clear()


def _renew() -> None:
    while _held:
        gevent.sleep(_SECONDS / 4)
        _patch({"renewTime": datetime.now(UTC).isoformat()})


def _patch(spec: dict[str, str]) -> None:
    # Not the connection it was taken by: that one's control plane may have been rebooted since.
    if api := opened():
        # While the API restarts, nobody else can take it either.
        with contextlib.suppress(*API_ERRORS):
            coordination(api).patch_namespaced_lease(NAME, SPACE, {"spec": spec})
