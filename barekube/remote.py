"""Hosts other than the one an operation runs for, and commands whose output nobody may see."""

from pyinfra import state
from pyinfra.api import Host, StringCommand
from pyinfra.api.exceptions import ConnectError

_unreachable: set[str] = set()


def reach(other: Host) -> bool:
    """Whether `other` is connected, in the limit or not; asked once a run of one that is not."""
    if other.connected:
        return True
    if other in state.failed_hosts or other.name in _unreachable:
        return False
    if not state.is_host_in_limit(other):
        try:
            other.connect(reason="outside the limit", raise_exceptions=True)
        except ConnectError:
            _unreachable.add(other.name)
    else:
        _unreachable.add(other.name)
    return bool(other.connected)


def sudo(other: Host) -> bool:
    """Whether commands of `other` go through sudo, as its data or config.py say."""
    return bool(other.data.get("_sudo", state.config.SUDO))


def read_secret(other: Host, path: str) -> str | None:
    """The text of a root-only file, never printed at any verbosity; None: it cannot be read."""
    try:
        done, output = other.run_shell_command(
            StringCommand("cat", path),
            print_output=False,
            print_input=False,
            _sudo=sudo(other),
        )
    except OSError:
        return None
    return output.stdout + "\n" if done and output.stdout else None
