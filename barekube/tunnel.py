"""A port of this machine's loopback that leads through a host's SSH connection to another port."""

import contextlib
import logging
import socket
from typing import Any

import gevent
from gevent.server import StreamServer
from paramiko import SSHException
from pyinfra.api import Host

# That nothing listens at the far end yet is what a wait is for; paramiko would print each try.
logging.getLogger("paramiko.transport").setLevel(logging.CRITICAL)


class Tunnel:
    """Listens on 127.0.0.1:`port` until the process ends.

    It leads to `target_port` of `target`, an address as `host` sees it: by default its own.
    """

    def __init__(self, host: Host, target_port: int, target: str = "127.0.0.1") -> None:
        connector: Any = host.connector
        self._transport = connector.client.get_transport()
        self._target = (target, target_port)
        self._server = StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()
        self.port: int = self._server.server_port

    def _serve(self, near: Any, peer: tuple[str, int]) -> None:  # noqa: ANN401
        try:
            far = self._transport.open_channel("direct-tcpip", self._target, peer, timeout=10)
        except (SSHException, OSError, EOFError):
            near.close()
            return
        back = gevent.spawn(_copy, far, near)
        _copy(near, far)
        back.join()


def _copy(source: Any, sink: Any) -> None:  # noqa: ANN401
    """Copy until either end closes, then close both: a half-open one would wait for ever."""
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except (OSError, SSHException, EOFError):
        pass
    finally:
        for end in (source, sink):
            with contextlib.suppress(OSError, AttributeError, EOFError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
