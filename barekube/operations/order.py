"""What keeps operations in order: barriers, refusals, and who acts for the cluster."""

import shlex
import time
from collections.abc import Callable, Generator
from functools import wraps
from pathlib import PurePath
from typing import Any, TypeVar

from gevent.lock import RLock
from pyinfra import host, inventory, state
from pyinfra.api import FunctionCommand, Host, State, StringCommand, operation
from pyinfra.api.command import PyinfraCommand
from pyinfra.api.exceptions import DeployError

from barekube import api as cluster_api
from barekube import lease, settings
from barekube.api import API_ERRORS, passing, phrase
from barekube.cluster import Cluster

# Alone on the host. A kubeadm or dpkg of this account that outlived its run or its SSH session is
# waited for; that of another operator, or of another run that lives, is not.
LOCK = (
    "exec 9<>/run/lock/barekube; flock -n 9 || {{ by=$(cat <&9);"
    " case $by in {living}) false;; {account}' (pid '*) flock -w 900 9;; *) false;; esac"
    ' || {{ echo "barekube of $by works on this host, wait for it" >&2; exit 75; }}; }};'
    " echo {me} >/run/lock/barekube; "
)
_REFUSED = StringCommand("false")
# For how long, in seconds, an API is asked again that fails in passing: its etcd, on a busy disk,
# is late now and then.
_PASSING = 60
_MINUTES = 3
_Answer = TypeVar("_Answer")
# The sentences that each host was refused with.
refused: dict[str, list[str]] = {}
# Of those that were refused what the command itself asks for: the --data that was lacking, or "".
misasked: dict[str, str] = {}
_ended: set[str] = set()
# The stages that a preview has come to the end of, or to a barrier in, by host.
_passed: set[tuple[str, str]] = set()
# What is not well, and no command changes, by host: found while preparing, and while executing.
unwell: dict[tuple[bool, str], list[str]] = {}


@operation()
def barrier() -> Generator[StringCommand, None, None]:
    """Do nothing on every host: what follows waits for all of them.

    pyinfra orders only what hosts share; without it a worker joins before init.
    """
    if not state.is_executing:
        file = host.current_deploy_name or state.current_deploy_filename or ""
        _passed.add((host.name, PurePath(file.rpartition(" | ")[2]).stem))
    return
    yield


def to_come(stage: str) -> bool:
    """Whether this is a preview of a run that has `stage` before: what that makes is not there yet,
    and lacks nobody. The preview of a stage alone refuses what its run would."""
    if state.is_executing or (host.name, stage) not in _passed:
        return False
    makers = settings.control_plane_hosts() if stage == "control_plane" else [host]
    return any(each.name == other.name for each in makers for other in state.active_hosts)


def answering(steps: Generator[PyinfraCommand]) -> Generator[PyinfraCommand]:
    """The steps, ended with a sentence if the API fails meanwhile, or if another run changes the
    cluster: before the first step that changes something, the cluster's Lease is taken.

    An exception that leaves an operation would stop every host. A preview has none after one that
    it refused: the run would have ended there.
    """
    if not state.is_executing and host.name in _ended:
        return
    try:
        for step in steps:
            if step is _REFUSED and not state.is_executing:
                _ended.add(host.name)
            api = cluster_api.opened() if state.is_executing and step is not _REFUSED else None
            if api and (wrong := persistently(lease.take, api)):
                yield from refuse(wrong)
                return
            if isinstance(step, FunctionCommand):
                step.function = _saying_what_the_api_lacks(step.function)
            yield step
    except API_ERRORS as error:
        yield from refuse(_failed(error))


def exclusively(steps: Generator[PyinfraCommand]) -> Generator[PyinfraCommand]:
    """The steps, which need no API, ended before the first one where another run holds the Lease.

    Without an API there is none to see, and the host's own lock is all: a machine is mended all
    the same.
    """
    if not state.is_executing and host.name in _ended:
        return
    for step in steps:
        if state.is_executing and step is not _REFUSED and (wrong := _another_run()):
            yield from refuse(wrong)
            return
        yield step


def _another_run() -> str | None:
    """A sentence that names the run that changes the cluster, if it is not this one."""
    with _looking:
        if not _none_to_see:
            try:
                api = cluster_api.opened() or cluster_api.connect(settings.cluster())
                return persistently(lease.take, api)
            except (*API_ERRORS, DeployError):
                _none_to_see.append(True)
    return None


# Whether this run has looked in vain for an API that no step needed, or for the Lease in it: once,
# for on bare machines each look takes a command for each control plane, and beside an etcd that is
# down half a minute, longer than a firewall that is being tried waits for its next step.
_none_to_see: list[bool] = []
_looking = RLock()


def _failed(error: BaseException) -> str:
    return f"{phrase(error)}; see whether its control planes run, then run again"


def persistently(ask: Callable[..., _Answer], *given: Any) -> _Answer:  # noqa: ANN401
    """What `ask` answers, asked again for a minute while the API fails in a way that passes; for
    another one, twice at most, where it had gone well for so long before it failed again.

    Raises what `ask` raised last.
    """
    ends: list[float] = []
    while True:
        began = time.monotonic()
        try:
            return ask(*given)
        except API_ERRORS as error:
            now = time.monotonic()
            if not ends or (now - began > _PASSING and len(ends) < _MINUTES):
                ends.append(now + _PASSING)
            if not passing(error) or now > ends[-1]:
                raise
        time.sleep(1)


def _saying_what_the_api_lacks(function: Callable[..., bool]) -> Callable[..., bool]:
    """A step's function, called again if it ends in a passing failure of the API: each finds by
    itself what is done. One that lasts is a sentence and no traceback."""

    @wraps(function)
    def step(state: State, host: Host, *given: Any) -> bool:  # noqa: ANN401
        try:
            return persistently(function, state, host, *given)
        except API_ERRORS as error:
            host.log(_failed(error))
            return False

    return step


def calling(
    function: Callable[..., bool],
    *given: Any,  # noqa: ANN401
) -> FunctionCommand:
    """A step that uses the API, in an operation that is not answering()."""
    return FunctionCommand(_saying_what_the_api_lacks(function), given, {})


def wait(what: str, limit: int, look: Callable[[], str | None]) -> str | None:
    """Ask until `look` says that nothing is lacking; None, or what lacked after `limit` seconds."""
    began = said = time.monotonic()
    while True:
        try:
            lacking = look()
        except API_ERRORS as error:
            lacking = phrase(error)
        now = time.monotonic()
        if lacking is None or now - began > limit:
            return lacking
        if now - said > 15:
            said = now
            host.log(f"waiting for {what}, {now - began:.0f} s of {limit} s: {lacking}")
        time.sleep(1)


def refuse(*sentences: str) -> Generator[StringCommand, None, None]:
    """Fail this host, and no other, with a sentence or more; a preview shows it and fails too."""
    said = refused.setdefault(host.name, [])
    for sentence in sentences:
        if state.is_executing or sentence not in said:
            host.log(sentence)
        if sentence not in said:
            said.append(sentence)
    yield _REFUSED


def refuse_what_is_asked(*sentences: str, data: str = "") -> Generator[StringCommand, None, None]:
    """Refuse what no mending makes right: the end of the run does not offer its command again, but,
    where it lacked `data`, the command with that."""
    misasked[host.name] = data
    return refuse(*sentences)


def unconfirmed(cluster: Cluster, undone: str) -> Generator[StringCommand, None, None]:
    """Refuse what the cluster's name has to confirm, and does not; `undone` says what is not done
    therefore."""
    given = host.data.get("cluster")
    why = f"{given} is not the cluster's name" if given else "nobody confirmed it"
    data = f"cluster={cluster.name}"
    return refuse_what_is_asked(f"{undone}, for {why} (--data {data})", data=data)


def warn(sentence: str) -> None:
    """Say what is not well and no command mends; in a preview drift.py takes it for trouble."""
    host.log(sentence)
    if not state.is_executing:
        unwell.setdefault((False, host.name), []).append(sentence)


def waited_for(
    what: str,
    function: Callable[..., bool],
    *given: Any,  # noqa: ANN401
) -> Generator[StringCommand]:
    """Wait by `function`, which says what it waited for in vain. To wait changes nothing: a preview
    only says so, and no command is counted for it."""
    warn(f"waits for {what}")
    if state.is_executing and not _saying_what_the_api_lacks(function)(state, host, *given):
        yield _REFUSED


def without_api(trouble: str) -> Generator[StringCommand]:
    """Refuse what needs the API, which does not answer."""
    return refuse(f"no control plane answers ({trouble}); run deploys/control_plane.py first")


def alone(script: str) -> str:
    """`script` for sh -e, begun once nothing else of ours works on the host."""
    lock = LOCK.format(
        me=shlex.quote(lease.holder()),
        account=shlex.quote(lease.account()),
        living="|".join(map(shlex.quote, lease.others())) or "''",
    )
    return lock + script


def syncing(paths: str, seconds: float) -> str:
    """The beginning of a script for `changing`: until that ends, `sync` writes `paths` (its words)
    to the disk every so many seconds."""
    return (
        f"while kill -0 $$; do sync {paths} || true; sleep {seconds}; done"
        " </dev/null >/dev/null 2>&1 9>&- &"
    )


def changing(script: str, stdin: str | None = None) -> StringCommand:
    """A command that changes the host, alone on it. `script` is run by sh -ec."""
    whole = alone(script)
    if stdin is None:
        return StringCommand("sh", "-ec", shlex.quote(whole))
    return StringCommand("sh", "-ec", shlex.quote(whole), _stdin=stdin)


def acts_for_the_cluster() -> bool:
    """Whether this host's operation looks, or cleans up, once for the cluster.

    It is the first host of the inventory that is in this run and has not failed.
    """
    first = next((each for each in inventory if each in state.active_hosts), None)
    return first is not None and first.name == host.name


# Who changes the cluster as a whole, while preparing and while executing.
_leader: dict[bool, str] = {}


def leads() -> bool:
    """Whether this host's operation changes the cluster as a whole: the host that began with that.

    Where it fails nobody goes on in its place, past what it was refused or could not do.
    """
    acts = acts_for_the_cluster()
    leader = led_by(host) if acts else _leader.get(state.is_executing)
    if leader == host.name:
        return True
    why = "another host of this run does it"
    if failed := failed_leader():
        why = f"{failed} failed, so that this is not done; mend it, or --exclude it"
        said = unwell.setdefault((state.is_executing, host.name), [])
        if acts and why not in said:
            host.log(why)
            said.append(why)
    host.noop(why)
    return False


def failed_leader() -> str | None:
    """The host that began to change the cluster as a whole, if it has failed since."""
    leader = _leader.get(state.is_executing)
    active = [each.name for each in state.active_hosts]
    return leader if leader and leader not in active else None


def led_by(first: Host) -> str:
    """The name of the host that leads this run: `first`, if none has begun before."""
    return _leader.setdefault(state.is_executing, first.name)
