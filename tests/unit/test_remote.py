"""A host that loses its power fails alone."""

import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest
from paramiko import SSHException
from pyinfra.api import Host

from barekube.remote import notice_silence


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
