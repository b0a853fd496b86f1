"""python -m lab: whole machines to deploy on. See lab/hosts.yaml for which."""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext

from bundle.errors import BundleError, sentence
from bundle.machine import end_by_sigterm
from lab import disks, guests, image, kernel, kubeconfig, lock, machine, pod_network, shell, wires
from lab.errors import LabError
from lab.hosts import Host, Lab, load
from lab.paths import BUNDLE, STATE

_CHANGES = ("up", "down", "power-off", "power-on")


def main() -> int:
    """Run one command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="build what is missing, boot the hosts, wait for SSH")
    up.add_argument("hosts", nargs="*", metavar="HOST", help="default: all that are no spares")
    commands.add_parser("status", help="which hosts have power and answer")
    commands.add_parser("kubeconfig", help="write a kubeconfig with a certificate of 24 h")
    commands.add_parser("down", help="end everything, delete the hosts' disks")
    for name, text in (
        ("power-off", "cut the power of a host"),
        ("power-on", "start a host with the disks that it has"),
    ):
        commands.add_parser(name, help=text).add_argument("host", metavar="HOST")
    ssh = commands.add_parser("ssh", help="a shell on a host, or one command")
    ssh.add_argument("host", metavar="HOST")
    ssh.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
    arguments = parser.parse_args()
    end_by_sigterm()
    try:
        machine.need_root()
        lab = load()
        if arguments.command not in ("up", "down"):
            _need_programs()
        with lock.held() if arguments.command in _CHANGES else nullcontext():
            status = _do(arguments, lab)
            sys.stdout.flush()
            return status
    except BrokenPipeError:
        # Whoever reads it (`head`) has seen enough; nor is Python's own end to write there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (LabError, BundleError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"lab: {sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted; run it again, or `python -m lab down`", file=sys.stderr)
        return 130


def _need_programs() -> None:
    """What `up` installs, of the programs that talk to the hosts."""
    for program in ("ip", "ssh"):
        if shutil.which(program) is None:
            raise LabError(f"there is no {program}; run `python -m lab up` first")


def _do(arguments: argparse.Namespace, lab: Lab) -> int:
    match arguments.command:
        case "up":
            _up(lab, arguments.hosts)
        case "down":
            _down()
        case "status":
            _status(lab)
        case "kubeconfig":
            print(f"export KUBECONFIG={kubeconfig.write(lab)}")
        case "power-off":
            guests.power_off(lab.host(arguments.host))
        case "power-on":
            host = lab.host(arguments.host)
            if not wires.whole() or not machine.ready():
                raise LabError("the lab is down; run `python -m lab up` first")
            _power_on(lab, [host])
        case "ssh":
            command = shell.command(lab.host(arguments.host), arguments.words)
            return subprocess.run(command, check=False).returncode
    return 0


def _up(lab: Lab, names: Sequence[str]) -> None:
    wanted = [lab.host(name) for name in names] or [h for h in lab.hosts if not h.spare]
    images = sorted({(host.debian, host.arch) for host in wanted})
    foreign = sorted({host.arch for host in wanted if host.emulated})
    missing = [] if (kernel.directory() / "linux").exists() else ["a kernel (10 min)"]
    missing += [f"Debian {' '.join(one)}" for one in images if not image.path(*one).exists()]
    missing += [] if (BUNDLE / "manifest.json").exists() else ["a bundle (30 min)"]
    print(
        f"lab: {', '.join(host.name for host in wanted)}; to build:"
        f" {', '.join(missing) or 'nothing, unless the bundle below lacks something'}",
        flush=True,
    )
    began = time.monotonic()
    times: list[tuple[str, float]] = []

    def timed(what: str) -> None:
        times.append((what, time.monotonic() - began - sum(spent for _, spent in times)))

    if lock.abandoned():
        guests.end_all()
        wires.down()
        machine.release()
    machine.prepare(emulated=bool(foreign))
    lock.own()
    timed("this machine")
    if not _built():
        raise LabError("the bundle was not built; mend what is said above, then run again")
    for arch in foreign:
        if not _built("--arch", arch):
            # A mirror can lack a release of Debian that no host here has; preflight will tell.
            print(f"lab: going on without what the bundle lacks for {arch}", flush=True)
    timed("bundle")
    kernel.build()
    timed("kernel")
    for release, arch in images:
        image.build(release, arch)
    timed("images")
    if not wires.whole():
        # Guests in a network that a killed `up` or `down` left in pieces can reach nothing.
        guests.end_all()
        wires.up()
    guests.serve_bundle()
    pod_network.choose(foreign)
    _power_on(lab, wanted)
    timed("boot")
    print("lab: up; " + ", ".join(f"{what} {spent:.0f} s" for what, spent in times))


def _built(*options: str) -> bool:
    """Build the bundle; return whether it is whole. The build does not outlive us."""
    # The directory is how `down` knows the lab's own build from another one.
    words = [sys.executable, "-m", "bundle", "--dir", str(BUNDLE), "build", *options]
    with subprocess.Popen(words) as build:
        try:
            return build.wait() == 0
        finally:
            build.terminate()


# What a host does to its core, in shares: two control planes on one core, while the other has a
# worker only, are too slow for each other's etcd.
_LOADS = {"control_plane": 3, "workers": 1}


def _power_on(lab: Lab, wanted: Sequence[Host]) -> None:
    tree = kernel.build()
    shell.make_key()
    taken = dict.fromkeys(sorted(os.sched_getaffinity(0)), 0)
    for host in lab.hosts:
        if (core := guests.core(host)) in taken:
            taken[core] += _LOADS[host.group]
    for host in wanted:
        if not guests.runs(host):
            # A disk that is there is what the host starts from, whatever the image is by now.
            if not disks.root_disk(host).exists():
                disks.make(host, image.build(host.debian, host.arch))
            core = min(taken, key=taken.__getitem__)
            taken[core] += _LOADS[host.group]
            system = image.build(host.debian, host.arch) if host.emulated else tree
            guests.power_on(host, system, core)
    shell.wait(wanted)


def _down() -> None:
    guests.end_all()
    wires.down()
    machine.release()
    shutil.rmtree(STATE, ignore_errors=True)


def _status(lab: Lab) -> None:
    for host in lab.hosts:
        power = guests.runs(host)
        state = (
            "answers on SSH"
            if power and shell.answers(host)
            else "has power, no SSH"
            if power
            else "off"
        )
        system = f"{host.debian} {host.arch}"
        print(f"{host.name:10} {host.address:12} {host.group:14} {system:15} {state}")


if __name__ == "__main__":
    sys.exit(main())
