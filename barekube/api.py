"""The cluster's API, reached through the SSH connection to any control plane that answers.

admin.conf is read by one unprinted command and lives in memory only: the TLS context is loaded
from a memory file, so that no key touches this machine's disk.
"""

import base64
import os
import ssl
import tempfile
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import urllib3
import yaml
from gevent.lock import RLock
from kubernetes import client as k8s
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from paramiko import SSHException
from pyinfra.api import Host

from barekube import living, remote, settings
from barekube.cluster import Cluster
from barekube.tunnel import Tunnel

ADMIN = "/etc/kubernetes/admin.conf"
# Requests side by side; each keeps a connection of its own.
AT_ONCE = 6
_lock = RLock()
_opened: dict[str, "Api"] = {}
# Why the last look found no API though there is a cluster; empty: it found one, or no cluster.
silent: list[str] = []


class Trouble(Exception):
    """The API cannot be used; the message is a phrase that says why. `passes`: a machine that this
    run still reaches has one that may come up."""

    passes = False


class NotThere(Trouble):
    """This machine is no control plane yet."""


# What a call of the API can raise, beyond the answers that its caller expects.
API_ERRORS = (Trouble, ApiException, urllib3.exceptions.HTTPError, OSError, SSHException)


def phrase(error: BaseException) -> str:
    """One of API_ERRORS as a phrase for the user."""
    if isinstance(error, Trouble):
        return str(error)
    if isinstance(error, ApiException):
        return f"the API answers {error.status} {error.reason}"
    return "the API stopped answering"


def passing(error: BaseException) -> bool:
    """Whether to ask again may help: a busy server, no answer, or an object that changed
    meanwhile."""
    if isinstance(error, Trouble):
        return error.passes
    if isinstance(error, ApiException):
        return error.status in (409, 429) or (error.status or 0) >= 500
    return isinstance(error, urllib3.exceptions.HTTPError)


class _Client(k8s.ApiClient):  # type: ignore[misc] # the library has no types
    """An API server that is just ended can end a connection before TLS is agreed on. The library
    makes that an ApiException without a body, and then fails to read the body (api_client.py)."""

    def request(self, *given: Any, **options: Any) -> Any:  # noqa: ANN401
        try:
            return super().request(*given, **options)
        except ApiException as error:
            if error.status == 0 and error.body is None:
                raise urllib3.exceptions.SSLError(error.reason) from None
            raise


class Api:
    """A connection to the API server of one control plane."""

    def __init__(self, host: Host, cluster: Cluster) -> None:
        """Raises Trouble if admin.conf cannot be read or no channel can be opened."""
        text = remote.read_secret(host, ADMIN)
        if text is None:
            if remote.lost(host):
                raise Trouble(f"{host.name} answers no more on SSH")
            raise NotThere(f"{host.name} has no {ADMIN}")
        try:
            config = yaml.safe_load(text)
            user = config["users"][0]["user"]
            pair = [
                base64.b64decode(user[f"client-{each}-data"]) for each in ("certificate", "key")
            ]
            known = config["clusters"][0]["cluster"]
            self.ca = base64.b64decode(known["certificate-authority-data"]).decode()
            # Where the living cluster has it: what group_data says may have been changed since.
            endpoint = known["server"].removeprefix("https://")
            name, _, digits = endpoint.rpartition(":")
            port = int(digits)
        except (yaml.YAMLError, LookupError, TypeError, ValueError, AttributeError):
            raise Trouble(f"{host.name}: {ADMIN} is damaged") from None
        self.host = host
        # A sentence, if group_data says that it is somewhere else.
        self.moved = living.moved(endpoint, cluster.endpoint)
        self._tunnel = Tunnel(host, port)
        configuration = k8s.Configuration(host=f"https://127.0.0.1:{self._tunnel.port}")
        configuration.retries = False
        self.client = _Client(configuration)
        self.client.rest_client.pool_manager = urllib3.PoolManager(
            ssl_context=_context(self.ca, pair),
            server_hostname=name,
            assert_hostname=name,
            maxsize=AT_ONCE,
            timeout=urllib3.Timeout(connect=10, read=60),
            retries=False,
        )
        self.core = k8s.CoreV1Api(self.client)
        self.apps = k8s.AppsV1Api(self.client)
        self.certificates = k8s.CertificatesV1Api(self.client)
        self._dynamic: DynamicClient | None = None

    @property
    def dynamic(self) -> DynamicClient:
        """The client for objects of any kind. What kinds there are is asked once a run."""
        if self._dynamic is None:
            # Kept, for it goes with this object, or at the exit.
            self._folder = tempfile.TemporaryDirectory(prefix="barekube-")
            self._dynamic = DynamicClient(self.client, cache_file=f"{self._folder.name}/kinds.json")
        return self._dynamic

    def ready(self) -> str | None:
        """None if the API server is ready to serve us, else a phrase that says what it lacks."""
        try:
            self.core.get_api_resources()
        except ApiException as error:
            early = ", as one that was just started does for a while" if error.status == 403 else ""
            return f"its API answers {error.status} {error.reason}{early}"
        except (urllib3.exceptions.HTTPError, OSError, SSHException):
            return "its API does not answer"
        return None


def clock(api: Api) -> datetime:
    """The time by the clock of the control plane that answers; this machine's may differ."""
    answer = api.client.call_api("/version", "GET", _preload_content=False)
    return parsedate_to_datetime(answer.headers["Date"])


def coordination(api: Api) -> k8s.CoordinationV1Api:
    """Leases."""
    return k8s.CoordinationV1Api(api.client)


def _context(ca: str, pair: list[bytes]) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=ca)
    file = os.memfd_create("client", os.MFD_CLOEXEC)
    try:
        for each in pair:
            os.write(file, each)
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)
    return context


def connect(cluster: Cluster, besides: str = "") -> Api:
    """The API through the first control plane of the inventory that serves it.

    `besides`: one that is not to be used, from now on, for what serves there is to go.

    Raises Trouble, with a phrase for each control plane, if there is none.
    """
    with _lock:
        phrases: list[str] = []
        bare: list[str] = []
        passes = False
        silent.clear()
        for host in settings.control_plane_hosts():
            if host.name == besides:
                _opened.pop(besides, None)
                continue
            known = _opened.get(host.name)
            if known is not None and known.ready() is None:
                # The last one is the one in use.
                _opened[host.name] = _opened.pop(host.name)
                return known
            if not remote.reach(host):
                phrases.append(f"{host.name} does not answer on SSH")
                continue
            try:
                fresh = Api(host, cluster)
            except NotThere as nothing:
                phrases.append(str(nothing))
                bare.append(str(nothing))
                continue
            except Trouble as trouble:
                phrases.append(str(trouble))
                continue
            except (OSError, SSHException) as no_channel:
                phrases.append(f"{host.name}: {no_channel}")
                passes = passes or not remote.lost(host)
                continue
            lack = fresh.ready()
            if lack is None:
                _opened.pop(host.name, None)
                _opened[host.name] = fresh
                return fresh
            phrases.append(f"{host.name}: {lack}")
            passes = passes or not remote.lost(host)
        silent.extend(phrases if phrases != bare else [])
        error = Trouble("; ".join(phrases) or "the inventory has no control plane")
        error.passes = passes
        raise error


def opened() -> Api | None:
    """The connection that this run has, if it has one."""
    return next(reversed(_opened.values()), None)


def found(call: Any, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
    """What `call` returns, or None where the API says that there is no such object."""
    try:
        return call(*arguments, **options)
    except ApiException as error:
        if error.status == 404:
            return None
        raise
