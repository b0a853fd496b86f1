"""Kernel parameters, modules and swap as wanted and as found on one host."""

from collections.abc import Iterable, Mapping, Sequence

SYSCTL_FILE = "/etc/sysctl.d/90-barekube.conf"
MODULES_FILE = "/etc/modules-load.d/barekube.conf"
SWAPS, HOSTS = "/proc/swaps", "/etc/hosts"


def proc_path(parameter: str) -> str:
    """'net.ipv4.ip_forward' -> '/proc/sys/net/ipv4/ip_forward'."""
    return "/proc/sys/" + parameter.replace(".", "/")


def running_differs(
    wanted: Mapping[str, str], found: Mapping[str, Sequence[str] | None]
) -> list[str]:
    """A phrase for each running kernel parameter that is not as wanted.

    `found` maps paths under /proc/sys to their lines; one that it lacks is not known to this
    kernel (yet: its module may be missing). Fields are compared, not text: the kernel
    separates them by tabs (proc_dointvec in kernel/sysctl.c).
    """
    said = []
    for parameter, value in wanted.items():
        lines = found.get(proc_path(parameter))
        now = " ".join(" ".join(lines).split()) if lines else "not there yet"
        if now != " ".join(value.split()):
            said.append(f"{parameter}: {now} -> {value}")
    return said


def sysctl_text(wanted: Mapping[str, str]) -> str:
    """The file for sysctl.d(5). Raises ValueError for a line break, a second parameter."""
    for parameter, value in wanted.items():
        if "\n" in parameter + value:
            raise ValueError(f"{parameter!r}: a kernel parameter is one line")
    return "".join(f"{parameter} = {value}\n" for parameter, value in sorted(wanted.items()))


def modules_text(wanted: Iterable[str]) -> str:
    """The file for modules-load.d(5)."""
    return "".join(f"{module}\n" for module in sorted(wanted))


def dropped(
    there: Mapping[str, Sequence[str] | None], modules: Iterable[str], sysctls: Iterable[str]
) -> list[str]:
    """A phrase for each module and parameter that our files (path to lines) name and that is wanted
    no more: the kernel keeps it until a boot."""
    said = []
    for path, wanted, what in ((MODULES_FILE, modules, "module "), (SYSCTL_FILE, sysctls, "")):
        names = {line.partition("=")[0].strip() for line in there.get(path) or []}
        said += [
            f"{what}{name}: no more after a boot; until then it stays as it is"
            for name in sorted(names.difference(wanted, [""]))
        ]
    return said


def unprepared(
    sysctls: Mapping[str, str], found: Mapping[str, Sequence[str] | None], api_name: str
) -> str | None:
    """The first thing that kubeadm relies on and host.py has not seen to; None: nothing is left.

    `found` maps paths to their lines.
    """
    if differing := running_differs(sysctls, found):
        return differing[0]
    if used := swaps(found.get(SWAPS) or []):
        return f"swap {used[0]} is on"
    names = {word for line in found.get(HOSTS) or [] for word in line.split()[1:]}
    return None if api_name in names else f"{HOSTS} has no {api_name}"


def swaps(lines: Sequence[str]) -> list[str]:
    """The devices and files in use as swap; `lines` are those of /proc/swaps."""
    return [line.split()[0] for line in lines[1:]]
