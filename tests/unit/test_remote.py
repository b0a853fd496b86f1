"""A host that loses its power fails alone; an SSH server that forwards nothing is found."""

import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest
from paramiko import ChannelException, SSHException
from paramiko.common import (
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_FAILED_CONNECT_FAILED,
)
from pyinfra.api import Host

from barekube import nodes, remote
from barekube.cluster import Node
from barekube.remote import forwards, notice_silence


def _host(name: str, execute: Any, near: socket.socket) -> Host:  # noqa: ANN401
    transport = SimpleNamespace(sock=near)
    client = SimpleNamespace(get_transport=lambda: transport, exec_command=execute)
    return cast(Host, SimpleNamespace(name=name, connector=SimpleNamespace(client=client)))


def test_a_connection_that_dies_is_an_error_that_pyinfra_keeps_to_its_host() -> None:
    def dies(*_: object) -> None:
        raise EOFError

    with socket.socket() as near:
        host: Any = _host("dies", dies, near)
        notice_silence(host)
        with pytest.raises(SSHException, match="the connection was lost"):
            host.connector.client.exec_command("true")


def test_a_silent_host_is_given_up_within_a_minute() -> None:
    with socket.socket() as near:
        notice_silence(_host("silent", lambda *_: None, near))

        def option(name: int) -> int:
            return near.getsockopt(socket.IPPROTO_TCP, name)

        assert near.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        probing = option(socket.TCP_KEEPINTVL) * option(socket.TCP_KEEPCNT)
        assert option(socket.TCP_KEEPIDLE) + probing <= 60
        assert option(socket.TCP_USER_TIMEOUT) <= 60_000


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        pytest.param(None, True, id="open"),
        pytest.param(
            ChannelException(OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED, "prohibited"),
            False,
            id="AllowTcpForwarding no",
        ),
        pytest.param(
            ChannelException(OPEN_FAILED_CONNECT_FAILED, "refused"), True, id="nobody listens"
        ),
        pytest.param(SSHException("timed out"), True, id="not known"),
    ],
)
def test_only_a_server_that_forbids_a_way_to_a_port_forwards_none(
    error: Exception | None, answer: bool
) -> None:
    asked: list[object] = []

    def open_channel(kind: str, end: object, *_: object, **__: object) -> SimpleNamespace:
        asked.append((kind, end))
        if error:
            raise error
        return SimpleNamespace(close=lambda: asked.append("closed"))

    transport = SimpleNamespace(open_channel=open_channel)
    client = SimpleNamespace(get_transport=lambda: transport)
    host = cast(Host, SimpleNamespace(connector=SimpleNamespace(client=client)))
    assert forwards(host) is answer
    opened: list[object] = [("direct-tcpip", ("127.0.0.1", 22))]
    assert asked == ([*opened, "closed"] if error is None else opened)


def test_a_host_that_is_lost_while_its_certificate_is_awaited_is_not_taken_for_the_api(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lost(*_: object, **__: object) -> None:
        raise SSHException("the connection was lost")

    said: list[str] = []
    host: Any = SimpleNamespace(name="w-1", run_shell_command=lost, log=said.append)
    asked = SimpleNamespace(items=[])
    listed = SimpleNamespace(list_certificate_signing_request=lambda **_: asked)
    api: Any = SimpleNamespace(certificates=listed)
    monkeypatch.setattr(remote, "sudo", lambda other: False)
    assert not nodes.approve_serving(host, api, Node("w-1", "192.0.2.21", False), "/x", 180)
    assert said == ["its SSH connection was lost; see whether it has power, then run this again"]
