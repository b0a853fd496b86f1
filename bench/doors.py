"""What the doors cost, and how soon an Ingress is served; on the lab, as `make lab` leaves it.

    .venv/bin/python -m bench.doors

- From `kubectl apply` of an Ingress to its first answered request, ten times (goal: median < 2 s).
- 50 requests a second through the internal door and to the NodePort of the same pod, three turns of
  20 s each (goal: no error; the door's p95 at most 3 times the NodePort's).
- The most requests a second that either gives, 10 s each.

It needs Debian's `hey` for the load, which comes from this machine: the lab's gateway, no node.
"""

import csv
import io
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import urllib3

from lab.hosts import load

KUBECTL: Final = [
    str(Path.home() / ".cache/barekube/bin/kubectl"),
    "--kubeconfig",
    str(Path.home() / ".cache/barekube/lab/kubeconfig"),
]
NAME: Final = "smoke.cluster.internal"
TURNS: Final = 3
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
    return sorted(good), len(rows) - len(good)


def p95(times: list[float]) -> float:
    return times[int(len(times) * 0.95)] if times else float("inf")


def main() -> int:
    """Print the measurements; 0 if every goal is reached."""
    if not shutil.which("hey"):
        sys.exit("bench.doors needs hey; run `apt-get install hey`")
    address = load().host("worker-1").address
    kubectl("apply", "-f", "manifests/smoke/smoke.yaml")
    kubectl("-n", "smoke", "wait", "--for=condition=Available", "deploy/smoke", "--timeout=120s")
    kubectl("apply", "-f", "-", text=json.dumps(NODE_PORT))
    service = json.loads(kubectl("-n", "smoke", "get", "service", "bench", "-o", "json"))
    ways = {
        "door": f"https://{address}/hostname",
        "NodePort": f"http://{address}:{service['spec']['ports'][0]['nodePort']}/hostname",
    }
    try:
        return _measure(address, ways)
    finally:
        kubectl("delete", "namespace", "smoke", "--wait=false")


def _measure(address: str, ways: dict[str, str]) -> int:
    first = [first_answer(address, number) for number in range(10)]
    print("apply to first answer:", " ".join(f"{each:.2f}" for each in first), flush=True)
    print(f"  median {statistics.median(first):.2f} s (goal: 2)", flush=True)
    tails: dict[str, list[float]] = {name: [] for name in ways}
    failed = 0
    for turn in range(TURNS):
        for name, url in ways.items():
            times, bad = load_of(url, "-z", "20s", "-c", "10", "-q", "5")
            tails[name].append(p95(times))
            failed += bad
            print(
                f"50/s, turn {turn + 1}, {name}: {len(times)} answers, {bad} failed, median"
                f" {statistics.median(times) * 1000:.1f} ms, p95 {p95(times) * 1000:.1f} ms",
                flush=True,
            )
    ratio = statistics.median(tails["door"]) / statistics.median(tails["NodePort"])
    print(f"  p95 through the door is {ratio:.2f} times the NodePort's (goal: 3)", flush=True)
    for name, url in ways.items():
        times, bad = load_of(url, "-z", "10s", "-c", "20")
        print(f"most, {name}: {len(times) / 10:.0f} requests a second, {bad} failed", flush=True)
    return int(statistics.median(first) > 2 or ratio > 3 or failed > 0)


if __name__ == "__main__":
    sys.exit(main())
