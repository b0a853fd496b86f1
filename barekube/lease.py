"""One run at a time changes the cluster: a Lease in kube-system says whose."""

import contextlib
import getpass
import os
import re
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import gevent
from gevent.lock import RLock
from kubernetes import client as k8s
from kubernetes.client.exceptions import ApiException
from pyinfra import state
from pyinfra.api.state import BaseStateCallback, State

from barekube.api import API_ERRORS, Api, coordination, found, opened

NAME, SPACE = "barekube", "kube-system"
_SECONDS = 60
# A file for each run of this account on this machine, named by its process.
RUNS = Path.home() / ".cache/barekube/runs"
_lock = RLock()
_held: set[str] = set()


def account() -> str:
    """user@host."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def holder() -> str:
    """Whose run this is: an account can have two at a time."""
    return _run(os.getpid())


def _run(pid: int) -> str:
    return f"{account()} (pid {pid})"


def _ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def orphaned(by: str) -> bool:
    """Whether `by` is a run of this account that was cut off."""
    ours = re.fullmatch(rf"{re.escape(account())} \(pid (\d{{1,9}})\)", by)
    return ours is not None and _ended(int(ours[1]))


def others() -> list[str]:
    """The other runs of this account that live, for a host cannot ask this machine.

    Where no file can be written here, none is known; their commands are then waited for.
    """
    pids = []
    with contextlib.suppress(OSError):
        RUNS.mkdir(parents=True, exist_ok=True)
        (RUNS / str(os.getpid())).touch()
        for each in RUNS.iterdir():
            if _ended(int(each.name)):
                each.unlink(missing_ok=True)
            elif int(each.name) != os.getpid():
                pids.append(int(each.name))
    return [_run(pid) for pid in sorted(pids)]


def refusal(spec: k8s.V1LeaseSpec | None, own: str, now: datetime) -> str | None:
    """A sentence if somebody else's run holds the Lease and has renewed it in time."""
    by = spec.holder_identity if spec else None
    if spec is None or not by or by == own or orphaned(by):
        return None
    end = spec.renew_time + timedelta(seconds=spec.lease_duration_seconds)
    if end <= now:
        return None
    return (
        f"{by} changes this cluster now; wait for that run to end, or"
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
