"""One run at a time changes the cluster: a Lease in kube-system says whose."""

import contextlib
import getpass
import os
import re
import socket
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import gevent
from gevent.lock import RLock
from kubernetes import client as k8s
from kubernetes.client.exceptions import ApiException
from pyinfra import host, state
from pyinfra.api.state import BaseStateCallback, State

from barekube import remote, settings
from barekube.api import API_ERRORS, Api, coordination, found, opened

NAME, SPACE = "barekube", "kube-system"
# In seconds: how long it holds, after which time it is renewed, how long a request for that may
# take, and how long another run is watched that has not renewed it in time by this machine's clock.
_SECONDS, _RENEWAL, _PATIENCE, _LOOK = 60, 15, 10, 20
# A file for each run of this account on this machine, named by its process.
RUNS = Path.home() / ".cache/barekube/runs"
_lock, _writing = RLock(), RLock()
_held: set[str] = set()
# Who has taken it from this run.
_lost: list[str] = []


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


def _by_another(spec: k8s.V1LeaseSpec | None, own: str) -> bool:
    by = spec and spec.holder_identity
    return bool(by) and by != own and not orphaned(str(by))


def refusal(spec: k8s.V1LeaseSpec | None, own: str, now: datetime) -> str | None:
    """A sentence if somebody else's run holds the Lease and has renewed it in time."""
    if spec is None or not _by_another(spec, own):
        return None
    by = spec.holder_identity
    end = spec.renew_time + timedelta(seconds=spec.lease_duration_seconds)
    if end <= now:
        return None
    return (
        f"{by} changes this cluster now; wait for that run to end, or"
        f" {(end - now).total_seconds():.0f} s if it was cut off, then run this again"
    )


def take(api: Api) -> str | None:
    """Hold the Lease until this run ends; a sentence if another run does, also if it has taken it
    since, while this run could not renew it. Asked once a run."""
    with _lock:
        if _lost:
            return (
                f"{_lost[0]} changes this cluster since this run was away from it; wait for that"
                " run to end, then run this again"
            )
        if _held:
            return None
        own = holder()
        leases = coordination(api)
        there = found(leases.read_namespaced_lease, NAME, SPACE)
        if wrong := refusal(there and there.spec, own, datetime.now(UTC)):
            return wrong
        if there and _by_another(there.spec, own):
            # By the clocks of two machines, which may differ. One that lives renews it meanwhile.
            host.log(f"the run of {there.spec.holder_identity} is looked at, {_LOOK} s")
            gevent.sleep(_LOOK)
            before, there = there.spec.renew_time, leases.read_namespaced_lease(NAME, SPACE)
            if there.spec.renew_time != before and _by_another(there.spec, own):
                return (
                    f"{there.spec.holder_identity} changes this cluster now; wait for that run to"
                    " end, then run this again"
                )
        now = datetime.now(UTC)
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
            _write(holder_identity="")
            _held.clear()


def _renew() -> None:
    while _held:
        gevent.sleep(_RENEWAL)
        _write(renew_time=datetime.now(UTC))


def _write(**fields: object) -> None:
    """Change the Lease, if it is this run's still."""
    with _writing:
        _written(fields)


def _written(fields: Mapping[str, object]) -> None:
    for api in _ways():
        # While the API restarts, nobody else can take it either.
        with contextlib.suppress(*API_ERRORS):
            leases = coordination(api)
            there = leases.read_namespaced_lease(NAME, SPACE, _request_timeout=_PATIENCE)
            by = there.spec.holder_identity
            if by != holder():
                _held.clear()
                _lost.extend([by] if by else [])
                return
            for name, value in fields.items():
                setattr(there.spec, name, value)
            # Its resourceVersion lets one of two win.
            leases.replace_namespaced_lease(NAME, SPACE, there, _request_timeout=_PATIENCE)
            return


def _ways() -> Iterator[Api]:
    """The connection in use, then those of the other control planes that are connected: the first
    one may be rebooted by this run."""
    current = opened()
    if current:
        yield current
    for other in settings.control_plane_hosts():
        used = current is not None and current.host.name == other.name
        if not used and other.connected and not remote.lost(other):
            with contextlib.suppress(*API_ERRORS):
                yield Api(other, settings.cluster())
