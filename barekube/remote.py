"""Hosts other than the one an operation runs for, and commands whose output nobody may see."""

import shlex
import socket
from typing import Any

from paramiko import ChannelException, SSHException
from paramiko.common import OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
from pyinfra import state
from pyinfra.api import Host, StringCommand
from pyinfra.api.exceptions import ConnectError

_unreachable: set[str] = set()
_noticed: set[str] = set()
_PROBES = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): 15,
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): 5,
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): 6,
    # What was sent and is not acknowledged counts as well, in milliseconds.
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): 45_000,
}


def notice_silence(other: Host) -> None:
    """Let a host that lost its power fail its command, and nothing else, within a minute.

    Waiting for a command's end sends nothing, so that without TCP's own probes a run would wait
    for such a host for ever.
    """
    transport = _transport(other)
    if transport is None or other.name in _noticed:
        return
    client: Any = other.connector.client  # type: ignore[attr-defined]
    _noticed.add(other.name)
    for option, value in _PROBES.items():
        transport.sock.setsockopt(*option, value)
    execute = client.exec_command

    def exec_command(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        try:
            return execute(*arguments, **options)
        except EOFError:
            # paramiko says so of a connection that dies meanwhile; pyinfra lets it stop all hosts.
            raise SSHException("the connection was lost") from None

    client.exec_command = exec_command


def lost(other: Host) -> bool:
    """Whether the SSH connection to a host that was connected is gone; pyinfra closes none."""
    transport = _transport(other)
    return transport is not None and not transport.is_active()


def _transport(other: Host) -> Any:  # noqa: ANN401
    client: Any = getattr(other.connector, "client", None)
    return client.get_transport() if client else None


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
    if other.connected:
        notice_silence(other)
    return bool(other.connected)


def reconnect(other: Host) -> bool:
    """Whether `other`, whose connection is of no use any more, answers again."""
    _noticed.discard(other.name)
    try:
        other.disconnect()
        other.connect(show_errors=False)
    except (OSError, SSHException, EOFError):
        return False
    if other.connected:
        notice_silence(other)
    return bool(other.connected)


def boot_id(other: Host) -> str | None:
    """Which boot of `other` this is, another text each time; None: it does not answer."""
    said = lines(other, "cat /proc/sys/kernel/random/boot_id")
    return said[0] if said else None


def forwards(other: Host) -> bool:
    """Whether the SSH server of `other` opens a way to a port there (to its own, of SSH)."""
    client: Any = getattr(other.connector, "client", None)
    if client is None:
        return True
    transport = client.get_transport()
    try:
        end = ("127.0.0.1", 22)
        transport.open_channel("direct-tcpip", end, ("127.0.0.1", 0), timeout=10).close()
    except ChannelException as error:
        # That nobody listens there is a permission too.
        return bool(error.code != OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED)
    except (SSHException, OSError, EOFError):
        return True
    return True


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
    except (OSError, SSHException):
        return None
    return output.stdout + "\n" if done and output.stdout else None


def lines(other: Host, script: str) -> list[str] | None:
    """What a script of sh -e prints on a host, as root; None: it failed. Nothing of it is shown."""
    try:
        done, output = other.run_shell_command(
            StringCommand("sh", "-ec", shlex.quote(script)),
            print_output=False,
            print_input=False,
            _sudo=sudo(other),
        )
    except (OSError, SSHException):
        return None
    return list(output.stdout_lines) if done else None


def holds(other: Host, path: str) -> bool | None:
    """Whether there is a file with something in it, of root's perhaps; None: it cannot be asked."""
    try:
        done, _ = other.run_shell_command(
            StringCommand("test", "-s", path),
            print_output=False,
            print_input=False,
            _sudo=sudo(other),
        )
    except (OSError, SSHException):
        return None
    return bool(done)
