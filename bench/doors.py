"""What the doors cost, and how soon an Ingress is served; on the lab, as `make lab` leaves it.

    .venv/bin/python -m bench.doors

- From `kubectl apply` of an Ingress to its first answered request, ten times (goal: median < 2 s).
- 50 requests a second through the internal door and to the NodePort of the same pod, three turns of
  20 s each (goal: no error; the door's p95 at most 3 times the NodePort's). hey does not list a
  request that could not connect: what lacks of those that were to be sent counts as failed.
- The most requests a second that either gives, 10 s each.
- The internal door is restarted, node after node, under 50 requests a second of a client that knows
  all its nodes by one name, and tries once more at the next one (goal: no request lost).

It needs Debian's `hey` for the load, which comes from this machine: the lab's gateway, no node. The
last measurement needs two nodes with the internal door, and the lab has one, so give it a second:

    .venv/bin/python -m lab up worker-3
    BAREKUBE_LAB_EXTRA=worker-3 .venv/bin/pyinfra lab/inventory.py deploys/site.py -y

Afterwards `deploys/remove_node.py -y --data node=worker-3` and `power-off worker-3` take it away.
"""

import csv
import io
import json
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import urllib3

from barekube import doors
from lab import kubeconfig
from lab.hosts import load
from lab.paths import KUBECONFIG

KUBECTL: Final = [
    str(Path.home() / ".cache/barekube/bin/kubectl"),
    "--kubeconfig",
    str(KUBECONFIG),
]
NAME: Final = "smoke.cluster.internal"
TURNS: Final = 3
# Requests a second, evenly spaced (hey's connections send in the same moments, so it has one), and
# for how long a turn. The first and the last may be cut by the clock.
A_SECOND, SECONDS = 50, 20
LEAST = int(0.98 * A_SECOND * SECONDS)
# How many requests of the restart's client may be under way.
AT_ONCE = 200
NODE_PORT: Final = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "bench", "namespace": "smoke"},
    "spec": {"type": "NodePort", "selector": {"app": "smoke"}, "ports": [{"port": 8080}]},
}


def kubectl(*words: str, text: str | None = None) -> str:
    done = subprocess.run(
        [*KUBECTL, *words], input=text, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def ingress(name: str) -> dict[str, Any]:
    """An Ingress of the smoke application, under a name of its own."""
    backend = {"service": {"name": "smoke", "port": {"number": 80}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": "smoke"},
        "spec": {
            "ingressClassName": "internal",
            "rules": [{"host": f"{name}.cluster.internal", "http": {"paths": [path]}}],
        },
    }


def first_answer(address: str, number: int) -> float:
    """Seconds from `kubectl apply` until a request of the new name is answered."""
    name = f"bench-{number}"
    pool = urllib3.HTTPSConnectionPool(
        address, cert_reqs="CERT_NONE", assert_hostname=False, retries=False
    )
    began = time.monotonic()
    kubectl("apply", "-f", "-", text=json.dumps(ingress(name)))
    while True:
        answer = pool.request("GET", "/hostname", headers={"Host": f"{name}.cluster.internal"})
        took = time.monotonic() - began
        if answer.status == 200:
            return took
        if took > 60:
            sys.exit(f"{name} is not served after a minute: {answer.status}")
        time.sleep(0.02)


def load_of(url: str, *options: str) -> tuple[list[float], int]:
    """Seconds of each answered request, sorted, and the number of those that failed."""
    command = ["hey", "-o", "csv", "-host", NAME, *options, url]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    good = [float(row["response-time"]) for row in rows if row["status-code"] == "200"]
    if not good:
        sys.exit(f"{url} answers nothing")
    return sorted(good), len(rows) - len(good)


def failed_of(answered: Sequence[float], failed: int) -> int:
    """How many requests of a turn failed, those that hey does not list included; less what it did
    not send because an answer, of so many seconds, took longer than a request has."""
    late = sum(max(0, each - 1 / A_SECOND) for each in answered)
    return failed + max(0, LEAST - len(answered) - failed - int(late * A_SECOND))


def p95(times: list[float]) -> float:
    return times[int(len(times) * 0.95)]


class Client:
    """Asks at its pace, whatever the answers do, each time at another address first."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self.asked = 0
        self.retried: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.answered: list[float] = []
        self._pools = [
            urllib3.HTTPSConnectionPool(
                address,
                cert_reqs="CERT_NONE",
                assert_hostname=False,
                server_hostname=NAME,
                maxsize=AT_ONCE,
                timeout=5,
                retries=False,
            )
            for address in addresses
        ]
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Client":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while not self._end.wait(max(0, began + self.asked / A_SECOND - time.monotonic())):
                pool.submit(self._ask, self.asked)
                self.asked += 1

    def _ask(self, number: int) -> None:
        began = time.monotonic()
        first, second = (self._pools[(number + more) % len(self._pools)] for more in (0, 1))
        if why := self._failure(first):
            self.retried[why] += 1
            if again := self._failure(second):
                self.lost[f"{why}, then {again}"] += 1
                return
        self.answered.append(time.monotonic() - began)

    def _failure(self, pool: urllib3.HTTPSConnectionPool) -> str | None:
        """Why an address gave no answer of the application's, or None."""
        try:
            answer = pool.request("GET", "/hostname", headers={"Host": NAME})
        except urllib3.exceptions.HTTPError as error:
            return type(error).__name__
        return None if answer.status == 200 else str(answer.status)


def restart(addresses: Sequence[str]) -> int:
    """Restart the internal door under a client; how many of its requests were lost."""
    began = time.monotonic()
    with Client(addresses) as client:
        time.sleep(10)
        kubectl("-n", "traefik-internal", "rollout", "restart", "ds/traefik")
        kubectl("-n", "traefik-internal", "rollout", "status", "ds/traefik", "--timeout=600s")
        time.sleep(10)
    took, lost = time.monotonic() - began, client.asked - len(client.answered)
    print(
        f"restart of {len(addresses)} doors: {client.asked} requests in {took:.0f} s,"
        f" {client.retried.total()} retried, {lost} lost (goal: 0), slowest"
        f" {max(client.answered, default=0):.1f} s",
        flush=True,
    )
    for what, reasons in (("retried", client.retried), ("lost", client.lost)):
        for why, count in reasons.most_common():
            print(f"  {what} {count}: {why}", flush=True)
    # Behind its pace it would have put less on the doors than it was to.
    return lost + (client.asked < 0.95 * A_SECOND * took)


def main() -> int:
    """Print the measurements; 0 if every goal is reached."""
    if not shutil.which("hey"):
        sys.exit("bench.doors needs hey; run `apt-get install hey`")
    lab = load()
    kubeconfig.write(lab)
    nodes = kubectl("get", "nodes", "-l", f"{doors.LABEL}=internal", "-o", "name").split()
    addresses = [lab.host(node.removeprefix("node/")).address for node in nodes]
    if len(addresses) < 2:
        sys.exit(f"{len(addresses)} nodes have the internal door, two are needed\n\n{__doc__}")
    address = addresses[0]
    kubectl("apply", "-f", "manifests/smoke/smoke.yaml")
    kubectl("-n", "smoke", "wait", "--for=condition=Available", "deploy/smoke", "--timeout=120s")
    kubectl("apply", "-f", "-", text=json.dumps(NODE_PORT))
    service = json.loads(kubectl("-n", "smoke", "get", "service", "bench", "-o", "json"))
    ways = {
        "door": f"https://{address}/hostname",
        "NodePort": f"http://{address}:{service['spec']['ports'][0]['nodePort']}/hostname",
    }
    try:
        return _measure(addresses, ways)
    finally:
        kubectl("delete", "namespace", "smoke", "--wait=false")


def _measure(addresses: Sequence[str], ways: dict[str, str]) -> int:
    first = [first_answer(addresses[0], number) for number in range(10)]
    print("apply to first answer:", " ".join(f"{each:.2f}" for each in first), flush=True)
    print(f"  median {statistics.median(first):.2f} s (goal: 2)", flush=True)
    tails: dict[str, list[float]] = {name: [] for name in ways}
    failed = 0
    for turn in range(TURNS):
        for name, url in ways.items():
            pace = ("-z", f"{SECONDS}s", "-c", "1", "-q", str(A_SECOND))
            times, bad = load_of(url, *pace)
            tails[name].append(p95(times))
            bad = failed_of(times, bad)
            failed += bad
            print(
                f"50/s, turn {turn + 1}, {name}: {len(times)} answers, {bad} failed, median"
                f" {statistics.median(times) * 1000:.1f} ms, p95 {p95(times) * 1000:.1f} ms",
                flush=True,
            )
    # hey says tenths of a millisecond.
    ratio = statistics.median(tails["door"]) / max(1e-4, statistics.median(tails["NodePort"]))
    print(f"  p95 through the door is {ratio:.2f} times the NodePort's (goal: 3)", flush=True)
    for name, url in ways.items():
        times, bad = load_of(url, "-z", "10s", "-c", "20")
        print(f"most, {name}: {len(times) / 10:.0f} requests a second, {bad} failed", flush=True)
    lost = restart(addresses)
    return int(statistics.median(first) > 2 or ratio > 3 or failed > 0 or lost > 0)


if __name__ == "__main__":
    sys.exit(main())
