"""What it costs to find that nothing is to do: round trips, many hosts, and against Ansible.

    .venv/bin/python -m bench.noop

Three measurements of runs that change nothing, a few minutes in all:

- site.py on 3 and on 50 machines of the @fake connector and a stand-in for the API (those of
  tests/plan): how many commands a host is given.
- The same, with 50 ms a command: how long it takes.
- 20 stand-ins with a real sshd each (bench/stand_ins.py says what of them is real): the stages
  preflight, host, runtime and kubernetes_packages in one run of pyinfra against a playbook that
  checks the same (bench/noop.yaml) with pipelining, ControlPersist and as many forks as hosts. The
  other stages of site.py need a living API server. From its second turn on Ansible finds its
  connections open; barekube always makes its own. Both sides, and all stand-ins, share this
  machine's CPUs.

The turns alternate, three of each; a ratio is that of the medians. It needs root on Debian 12,
`mmdebstrap` and `openssh-client`; servers listen on the loopback of a network of their own.
"""

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from barekube.facts.preflight import CheckupFact
from bench import stand_ins
from bench.stand_ins import ANSIBLE, WORK, StandIn
from tests.plan import machines

TURNS: Final = 3
FEW, MANY, STAND_INS, DELAY = 3, 50, 20, 0.05
SPREAD_GOAL, ANSIBLE_GOAL = 2, 10
_STAGES: Final = ("preflight", "host", "runtime", "kubernetes_packages")
_APART: Final = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


def _run(words: Sequence[str | Path], unchanged: str, env: Mapping[str, str]) -> str:
    """Run a program and return its output; end the bench if that does not say `unchanged`."""
    environment = {**os.environ, "PYTHONPATH": str(machines.REPOSITORY), **env}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    if done.returncode or not re.search(unchanged, said):
        sys.exit(f"{said}\nbench: this run was to change nothing")
    return said


def _fake(count: int, delay: float, *options: str) -> str:
    words = [sys.executable, "tests/plan/with_api.py", "bench/noop_inventory.py"]
    env = {"BAREKUBE_BENCH_HOSTS": str(count), "BAREKUBE_BENCH_DELAY": str(delay)}
    options = ("--data", "network_manifests=tests/plan/manifests", *options)
    return _run([*words, "deploys/site.py", "-y", *options], f"unchanged: +{count}:", env)


def _round_trips(count: int) -> tuple[int, int]:
    """The commands that the control plane got, and the most that a worker got."""
    given = re.findall(
        r"\[fake\] simulating command on @fake/([^ :]+):", _fake(count, 0, "--debug")
    )
    counted = Counter(given)
    return counted.pop("metal-1"), max(counted.values())


def _alternating(sides: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(TURNS):
        for name, side in sides.items():
            began = time.monotonic()
            side()
            times[name].append(time.monotonic() - began)
            print(f"turn {turn + 1}: {name} {times[name][-1]:.1f} s", file=sys.stderr, flush=True)
    return times


def _barekube_on(hosts: Sequence[StandIn]) -> Callable[[], object]:
    """Our side: an inventory of the stand-ins, and site.py as far as its stages need no API."""
    data: dict[str, object] = {
        "ssh_user": "root",
        "ssh_key": str(WORK / "key"),
        "ssh_known_hosts_file": str(WORK / "known_hosts"),
        "package_sources": machines.package_sources(),
    }
    rows = [(h.name, {**data, "address": h.address, "ssh_hostname": h.address}) for h in hosts]
    inventory, site = WORK / "inventory.py", WORK / "site.py"
    inventory.write_text(f"control_plane = {rows[:1]!r}\nworkers = {rows[1:]!r}\n")
    lines = [f"local.include('deploys/{stage}.py')\n" for stage in _STAGES]
    site.write_text("from pyinfra import local\n" + "".join(lines))
    words: list[str | Path] = [Path(sys.executable).with_name("pyinfra"), inventory, site, "-y"]
    return lambda: _run(words, f"unchanged: +{len(hosts)}:", {})


def _ansible_on(hosts: Sequence[StandIn]) -> Callable[[], object]:
    """The other side: the same values for bench/noop.yaml."""
    first = hosts[0]
    block = first.files["/etc/hosts"].partition("begin\n")[2].partition("# barekube")[0]
    held = {name: version for name, (version, want) in first.packages.items() if want == "hold"}
    ours = {"containerd.io": held.pop("containerd.io")}
    files = {path: text for path, text in first.files.items() if path.startswith("/etc/")}
    values = {
        "checkup": CheckupFact().command().get_raw_value(),
        "files": files,
        "host_packages": list(machines.DEFAULTS["host_packages"]),
        "kernel_files": [path for path in files if "load.d" in path or "sysctl.d" in path],
        "modules": list(machines.DEFAULTS["modules"]),
        "sysctls": machines.DEFAULTS["sysctls"],
        "hosts_block": block,
        "containerd_source": [path for path in files if "barekube-containerd" in path],
        "containerd_packages": ours,
        "containerd_files": ["/etc/containerd/config.toml", "/etc/crictl.yaml"],
        "kubernetes_source": [path for path in files if "barekube-kubernetes" in path],
        "kubernetes_packages": held,
    }
    (WORK / "values.json").write_text(json.dumps(values))
    (WORK / "hosts").write_text("".join(f"{h.name} ansible_host={h.address}\n" for h in hosts))
    env = {
        "ANSIBLE_HOME": str(WORK / "ansible"),
        "ANSIBLE_FORKS": str(len(hosts)),
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
        "ANSIBLE_PRIVATE_KEY_FILE": str(WORK / "key"),
        # Beside its default, which has ControlMaster and ControlPersist=60s.
        "ANSIBLE_SSH_COMMON_ARGS": f"-F none -o UserKnownHostsFile={WORK}/known_hosts",
        "ANSIBLE_REMOTE_USER": "root",
        "ANSIBLE_NOCOLOR": "1",
    }
    words: list[str | Path] = [ANSIBLE / "bin/python", "-m", "ansible", "playbook"]
    words += ["-i", WORK / "hosts", "-e", f"@{WORK}/values.json", "bench/noop.yaml"]

    def run() -> None:
        said = _run(words, "PLAY RECAP", env)
        if len(re.findall(r"changed=0 +unreachable=0 +failed=0", said)) != len(hosts):
            sys.exit(f"{said}\nbench: this run was to change nothing")

    return run


def _on_stand_ins() -> None:
    """In namespaces of its own: print the times of both sides as JSON."""
    hosts = stand_ins.start(STAND_INS)
    sides = {"barekube": _barekube_on(hosts), "Ansible": _ansible_on(hosts)}
    print(json.dumps(_alternating(sides)))


def _row(what: str, ratio: float, goal: str, times: Mapping[str, Sequence[float]]) -> None:
    raw = "; ".join(f"{n} {', '.join(f'{t:.1f}' for t in each)} s" for n, each in times.items())
    print(f"{what:<44} {ratio:5.2f}  {goal:<12} {raw}")


def main() -> int:
    """Print the table; 1 if a goal is missed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if sys.argv[1:] == ["on-stand-ins"]:
        _on_stand_ins()
        return 0
    stand_ins.prepare()
    trips = {count: _round_trips(count) for count in (FEW, MANY)}
    many = _alternating({f"{n} hosts": partial(_fake, n, DELAY) for n in (FEW, MANY)})
    words = [*_APART, sys.executable, "-m", "bench.noop", "on-stand-ins"]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    versus: dict[str, list[float]] = json.loads(done.stdout)
    small, large = map(statistics.median, many.values())
    ours, theirs = map(statistics.median, versus.values())
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[2]:.1f} in the last quarter of an hour")
    for count, (master, worker) in trips.items():
        print(f"{f'round trips a host, of {count}':<44} control plane {master}, worker {worker}")
    spread, faster = large / small, theirs / ours
    _row(f"time of {MANY} hosts to {FEW}, 50 ms a command", spread, f"under {SPREAD_GOAL}", many)
    _row(f"time of Ansible to barekube, {STAND_INS} hosts", faster, f"from {ANSIBLE_GOAL}", versus)
    print(f"  of site.py's stages only {', '.join(_STAGES)}: the others need an API server")
    grows = any(many > few for few, many in zip(*trips.values(), strict=True))
    return int(grows or spread >= SPREAD_GOAL or faster < ANSIBLE_GOAL)


if __name__ == "__main__":
    sys.exit(main())
