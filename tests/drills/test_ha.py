"""High availability: grow from one control plane to three, with power cuts on the way, then take
the power of each in turn while clients count. Run by name, on the lab, which it takes down first.

    .venv/bin/python -m pytest tests/drills/test_ha.py -s

BAREKUBE_SEED chooses the moments of the cuts (it is printed).
"""

import os
import random
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from kubernetes import client as k8s
from kubernetes import config as k8s_config

from lab import hosts as lab_hosts
from lab import shell
from lab.paths import KUBECONFIG
from tests.lab.conftest import PYINFRA, Run, run_pyinfra
from tests.lab.recorder import repository_root, run_lab, ssh

SEED = os.environ.get("BAREKUBE_SEED", "1")
LOGS = Path.home() / ".cache/barekube/drills"
MASTERS = ["cp-1", "cp-2", "cp-3"]
# With a second one two cores have more to do than they can: etcd is late then whatever is done to
# the machines, and that would be measured.
WORKER = "worker-1"
# The spares that the inventory has beside the lab's own.
EXTRA = ",".join(MASTERS[1:])
# How long the join of a control plane takes here, in seconds.
JOIN = 60
# A dead machine is one for longer than any timeout of the API's: leases, keep-alives, elections.
DARK = 60
PORT = 16443


def _environment(extra: str) -> dict[str, str]:
    return os.environ | {"BAREKUBE_LAB_EXTRA": extra}


def _pyinfra(extra: str, *words: str) -> Run:
    run = run_pyinfra([*PYINFRA, *words], extra)
    assert "Traceback" not in run.text, run.text[-8000:]
    return run


def _members(on: str = "cp-1") -> list[str]:
    """etcd's members as its own program lists them on a host, each with whether it answers."""
    pki = "/etc/kubernetes/pki/etcd"
    ctl = (
        "crictl exec $(crictl ps -q --name '^etcd$') etcdctl --endpoints https://127.0.0.1:2379"
        f" --cacert {pki}/ca.crt --cert {pki}/healthcheck-client.crt"
        f" --key {pki}/healthcheck-client.key"
    )
    listed = ssh(on, f"{ctl} member list; {ctl} endpoint health --cluster 2>&1 || true")
    return listed.splitlines()


def _cut(name: str, extra: str, moment: float) -> None:
    """Take the power of a control plane `moment` seconds into its join, and give it back."""
    log = LOGS / f"ha-{SEED}-{name}-cut.log"
    with log.open("w") as file:
        run = subprocess.Popen(
            [*PYINFRA, "deploys/site.py", "-y"],
            cwd=repository_root(),
            stdout=file,
            stderr=subprocess.STDOUT,
            env=_environment(extra),
        )
        while f"Control plane on {name}" not in log.read_text():
            assert run.poll() is None, log.read_text()[-4000:]
            time.sleep(0.05)
        time.sleep(moment)
        run_lab("power-off", name)
        run.wait(timeout=1200)
    assert "Traceback" not in log.read_text(), log.read_text()[-6000:]
    run_lab("power-on", name)


@contextmanager
def deployed(masters: Sequence[str], *words: str) -> Iterator[Run]:
    """A fresh lab with these control planes and a worker, made by one site.py with `words`."""
    LOGS.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAREKUBE_LAB_WITHOUT", "worker-2")
        run_lab("down")
        run_lab("up", *masters, WORKER)
        run = _pyinfra(",".join(masters[1:]), "deploys/site.py", "-y", *words)
        (LOGS / "ha-site.log").write_text(run.text)
        assert run.status == 0, run.text[-6000:]
        yield run
        run_lab("down")


@pytest.fixture(scope="module")
def one() -> Iterator[None]:
    with deployed(MASTERS[:1]):
        yield


@pytest.fixture(scope="module")
def three(one: None) -> None:
    """Grown to three, one after the other, each of them cut off in its join and run again."""
    extra = ""
    for name in MASTERS[1:]:
        chance = random.Random(f"{SEED}-ha-{name}")
        moment = chance.random() * JOIN
        print(f"\nseed {SEED}: {name} loses its power {moment:.1f} s into its join", flush=True)
        extra = f"{extra},{name}".lstrip(",")
        run_lab("up", name)
        _cut(name, extra, moment)
        run = _pyinfra(extra, "deploys/site.py", "-y")
        (LOGS / f"ha-{SEED}-{name}-again.log").write_text(run.text)
        print(f"  re-run: {run.seconds:.0f} s, status {run.status}", flush=True)
        assert run.status == 0, run.text[-8000:]
        members = _members()
        count = len(extra.split(",")) + 1
        assert len([line for line in members if ", started, " in line]) == count, members
        assert len([line for line in members if "is healthy" in line]) == count, members
        assert not [line for line in members if "unstarted" in line or line.endswith("true")]


def test_a_cluster_grows_from_one_to_three_though_each_join_is_cut_off(three: None) -> None:
    again = _pyinfra(EXTRA, "deploys/site.py", "--dry", "--json")
    assert again.would_change() == {}, again.text[-4000:]
    labels = "node-role.kubernetes.io/control-plane"
    words = f"kubectl --kubeconfig /etc/kubernetes/admin.conf get nodes -l {labels} -o name"
    assert sorted(ssh("cp-3", words).split()) == [f"node/{name}" for name in MASTERS]
    led_to = {line.split()[0] for line in ssh(WORKER, "getent ahosts api.lab").splitlines()}
    assert led_to == {"127.0.0.1"}
    listening = ssh(WORKER, "crictl ps -q --name '^proxy$' --state Running; ss -Hltn")
    assert "127.0.0.1:6443" in listening
    assert "0.0.0.0:6443" not in listening
    own = ssh(WORKER, "ss -Htnp state established '( dport = :6443 )' | grep kubelet")
    assert {line.split()[3] for line in own.splitlines()} == {"127.0.0.1:6443"}


class Client(threading.Thread):
    """A call every half second, with a timeout of 10 s and one retry.

    It `keeps` its connection, or makes a new one for each call.
    """

    timeout = 10

    def __init__(self, *, keeps: bool) -> None:
        super().__init__(daemon=True)
        self.keeps = keeps
        self.calls = 0
        self.retried: list[str] = []
        self.failed: list[str] = []
        self.longest = 0.0
        self._end = threading.Event()
        self._configuration = k8s.Configuration()
        k8s_config.load_kube_config(str(KUBECONFIG), client_configuration=self._configuration)
        self._configuration.host = f"https://127.0.0.1:{PORT}"
        self._configuration.tls_server_name = "api.lab"
        self._configuration.retries = False
        self._core = self._new()

    def _new(self) -> k8s.CoreV1Api:
        return k8s.CoreV1Api(k8s.ApiClient(self._configuration))

    def _call(self) -> str | None:
        """Write, so that etcd has to agree; None, or why it failed."""
        core = self._core if self.keeps else self._new()
        body = {"data": {"keeps" if self.keeps else "new": str(self.calls)}}
        try:
            core.patch_namespaced_config_map(
                "ha-drill", "default", body, _request_timeout=self.timeout
            )
        except Exception as error:
            said = getattr(error, "body", None) or error
            return " ".join(f"{time.strftime('%X')} {type(error).__name__} {said}".split())[:400]
        finally:
            if not self.keeps:
                core.api_client.rest_client.pool_manager.clear()
        return None

    def run(self) -> None:
        while not self._end.wait(0.5):
            began = time.monotonic()
            self.calls += 1
            if first := self._call():
                self.retried.append(first)
                if second := self._call():
                    self.failed.append(f"{first}; then {second}")
            self.longest = max(self.longest, time.monotonic() - began)

    def stop(self) -> None:
        self._end.set()
        self.join(30)
        print(
            f"  client that {'keeps its connection' if self.keeps else 'makes new connections'}:"
            f" {self.calls} calls, {len(self.retried)} retried, {len(self.failed)} failed,"
            f" longest {self.longest:.1f} s",
            flush=True,
        )
        for line in self.retried:
            print(f"    retried: {line}", flush=True)


@contextmanager
def counting(*clients: Client) -> Iterator[Sequence[Client]]:
    """Clients, or one of either kind, which call meanwhile."""
    clients = clients or (Client(keeps=True), Client(keeps=False))
    config_map = k8s.V1ConfigMap(metadata=k8s.V1ObjectMeta(name="ha-drill"), data={})
    clients[0]._new().create_namespaced_config_map("default", config_map)
    for each in clients:
        each.start()
    try:
        yield clients
    finally:
        for each in clients:
            each.stop()
        # Whom it thought ill, since when and why, for whoever has to find out why a call failed.
        said = ssh(
            WORKER,
            "for each in $(crictl ps -aq --name '^proxy$'); do crictl logs -t $each; done 2>&1",
        )
        (LOGS / "proxy.log").write_text(said)
        clients[0]._new().delete_namespaced_config_map("ha-drill", "default")


@pytest.fixture
def through_worker(three: None) -> Iterator[None]:
    """127.0.0.1:PORT leads through SSH to the proxy on the worker."""
    run_lab("kubeconfig")
    program, *words = shell.command(lab_hosts.load().host(WORKER))
    way = ["-N", "-L", f"127.0.0.1:{PORT}:127.0.0.1:6443", "-o", "ExitOnForwardFailure=yes"]
    tunnel = subprocess.Popen([program, *way, *words])
    end = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", PORT), timeout=1).close()
            break
        except OSError:
            assert tunnel.poll() is None and time.monotonic() < end
            time.sleep(0.2)
    yield
    tunnel.terminate()
    tunnel.wait()


def _ready(name: str) -> bool:
    """Whether the API server of a control plane says of itself that it is ready."""
    url = f"https://{lab_hosts.load().host(name).address}:6443/readyz"
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with urllib.request.urlopen(url, timeout=5, context=context) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _await_all() -> None:
    end = time.monotonic() + 300
    while not all(_ready(name) for name in MASTERS):
        assert time.monotonic() < end, "not every API server is ready again"
        time.sleep(1)
    # Until each worker's proxy has seen it.
    time.sleep(15)


def test_no_call_fails_while_each_control_plane_loses_its_power_in_turn(
    through_worker: None,
) -> None:
    chance = random.Random(f"{SEED}-ha-power")
    _await_all()
    with counting() as clients:
        for name in MASTERS:
            time.sleep(5 + chance.random() * 5)
            print(f"\n{time.strftime('%X')} {name} loses its power", flush=True)
            run_lab("power-off", name)
            time.sleep(DARK)
            print(f"{time.strftime('%X')} {name} has its power again", flush=True)
            run_lab("power-on", name)
            _await_all()
    assert [each.failed for each in clients] == [[], []]
    assert all(each.calls > 3 * DARK for each in clients), "the clients have slept"
