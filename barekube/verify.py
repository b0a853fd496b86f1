"""What the proof after a deploy tries, and how its answers are judged."""

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

SPACE, SMOKE = "barekube-verify", "smoke"
SPACES = (SPACE, SMOKE)
WEAVE_GROUP, ROOK_GROUP = "needs Weave", "needs Rook"
HOST_PORT = 38080
MONTH = timedelta(days=30)
_LEAST_ROOM = 0.15  # kubelet evicts pods and deletes images from there on
_CLOCK_LIMIT = 5.0


@dataclass(frozen=True)
class Check:
    """One thing that was looked at on one host. `good` is None where it could not be checked;
    `words` say what was found; `group` is what it needs that not every site has."""

    title: str
    host: str
    good: bool | None
    words: str
    seconds: float = 0.0
    group: str = ""

    @property
    def line(self) -> str:
        said = {True: "ok", False: "FAILED", None: "not checked"}[self.good]
        return f"{said}: {self.title}, {self.words} ({self.seconds:.2f} s)"


@dataclass(frozen=True)
class Pods:
    """The pods of one node, by what they are ("probe", "closed", "stranger"), with addresses."""

    node: str
    address: str
    pods: Mapping[str, str]


@dataclass(frozen=True)
class Try:
    """A request that a host sends: to a pod of its own that is to ask further, or straight on.

    `passes`: whether it must be answered, or must not; `other`: the node at its far end.
    """

    title: str
    address: str
    port: int
    path: str
    passes: bool = True
    group: str = ""
    other: str = ""


def tries(own: Pods, others: Sequence[Pods], service: str, node_port: int) -> list[Try]:
    """What one host tries; `service` is the ClusterIP of the Service that answers locally."""

    def ask(asker: str, host: str, port: int) -> tuple[str, int, str]:
        path = f"/dial?protocol=http&request=hostname&host={host}&port={port}"
        return own.pods[asker], 8080, path

    result = [
        Try(f"pods on {other.node}", *ask("probe", other.pods["probe"], 8080), other=other.node)
        for other in others
    ]
    return [
        *result,
        Try("DNS", *ask("probe", f"names.{SPACE}.svc.cluster.local", 8080)),
        Try("Service", *ask("probe", service, 80)),
        Try("NodePort", own.address, node_port, "/hostname"),
        Try("hostPort", own.address, HOST_PORT, "/hostname"),
        Try("policy lets in", *ask("probe", own.pods["closed"], 8080), group=WEAVE_GROUP),
        Try(
            "policy keeps out",
            *ask("stranger", own.pods["closed"], 8080),
            passes=False,
            group=WEAVE_GROUP,
        ),
    ]


@dataclass(frozen=True)
class Answer:
    """What came back: the body's last line, and after how many seconds."""

    text: str
    seconds: float

    @property
    def answered(self) -> bool:
        """agnhost says {"responses": [a pod's name]} of what it dialled, else the name itself."""
        if self.text.startswith("{"):
            return '"responses"' in self.text
        return self.text.startswith("probe-")


# agnhost finds a name's address itself, and names that where it does not answer.
_FOUND: Final = re.compile(r'Get \\"http://[0-9.]+:')


def judge(
    host: str, asked: Sequence[Try], answers: Sequence[Answer], resolvers: Iterable[str]
) -> list[Check]:
    """The checks of one host.

    `resolvers` are the nodes that CoreDNS runs on: where the way to one of them is broken, DNS says
    nothing about DNS; a name that led to a pod behind such a way was found all the same. Nor does
    NodePort say anything about NodePorts where the way to any node is broken: kube-proxy leads a
    node's own requests to the pods of all, though the Service's externalTrafficPolicy is Local
    (pkg/proxy/iptables, "route LOCAL traffic").
    """
    result = []
    lost = {
        each.other
        for each, answer in zip(asked, answers, strict=True)
        if each.other and not answer.answered
    }
    for each, answer in zip(asked, answers, strict=True):
        good: bool | None = answer.answered == each.passes
        words = "answered" if answer.answered else f"no answer: {answer.text[:160] or 'silence'}"
        if not each.passes and answer.answered:
            words = "and was answered all the same"
        elif not each.passes:
            # That of the pod that asked: where it says nothing itself, nothing was asked.
            good = answer.text.startswith("{")
            words = "nothing came back" if good else f"the pod that is to ask says {words}"
        blamed = sorted(lost.intersection(resolvers))
        if each.title == "DNS" and not good and lost and _FOUND.search(answer.text):
            good, words = True, "the name was found; the pod that it led to is not reached"
        elif each.title == "DNS" and not good and blamed:
            good, words = None, f"for {' and '.join(blamed)}, where CoreDNS runs, is not reached"
        if each.title == "NodePort" and not good and lost:
            named = " and ".join(sorted(lost))
            good, words = None, f"for {named}, to whose pod it may lead too, is not reached"
        result.append(Check(each.title, host, good, words, answer.seconds, each.group))
    return result


def unread(file: str) -> str:
    """The sentence for a file that holds no certificate."""
    return f"{file} holds no certificate that can be read; restore it, or remove it if it is yours"


def certificates(
    host: str, ends: Mapping[str, datetime], broken: Sequence[str], now: datetime
) -> Check:
    """Whether all certificates of a host are good for a month; `ends` by their files, and those
    that cannot be read."""
    if broken:
        return Check("certificates", host, False, "; ".join(map(unread, broken)))
    if not ends:
        return Check("certificates", host, None, "none was found")
    file, end = min(ends.items(), key=lambda item: item[1])
    return Check(
        "certificates",
        host,
        end - now > MONTH,
        f"the first of {len(ends)} to end is {file}, on {end.astimezone(UTC):%Y-%m-%d}",
    )


def room(host: str, disks: Mapping[str, tuple[int, int]]) -> Check:
    """Whether each disk has room before kubelet begins to evict; (KiB free, of how many) by
    directory."""
    shares = {path: free / size if size else 0.0 for path, (free, size) in disks.items()}
    path, share = min(shares.items(), key=lambda item: item[1], default=("/var", 0.0))
    return Check("disk", host, share > _LEAST_ROOM, f"{share:.0%} of {path} are free")


def clocks(offsets: Mapping[str, float]) -> list[Check]:
    """Whether the hosts agree on the time; `offsets` are seconds against the controller, with
    which a single host is compared."""
    many = len(offsets) > 1
    middle = statistics.median(offsets.values()) if many else 0.0
    other = f"the median of {len(offsets)} hosts" if many else "the machine that this runs on"
    return [
        Check(
            "clock",
            host,
            abs(offset - middle) < _CLOCK_LIMIT,
            f"{offset - middle:+.1f} s against {other}",
        )
        for host, offset in offsets.items()
    ]


def table(checks: Sequence[Check]) -> list[str]:
    """A line a title: on how many hosts it is well, and where it is not; then the sums. What needs
    something that not every site has comes last, with what it is."""
    lines = []
    groups = dict.fromkeys(["", *(each.group for each in checks)])
    for group in groups:
        grouped = [each for each in checks if each.group == group]
        lines += _rows(grouped, f"  {group}" if group else "")
    counts = [sum(each.good is value for each in checks) for value in (True, False, None)]
    lines.append(f"ok: {counts[0]}, FAILED: {counts[1]}, not checked: {counts[2]}")
    for group in groups:
        left = [each for each in checks if each.group == group and each.good is None]
        names = ", ".join(dict.fromkeys(map(_kind, left)))
        if left:
            lines.append(f"not checked{group and f', {group}'}: {len(left)} ({names})")
    return lines


def _rows(checks: Sequence[Check], mark: str) -> list[str]:
    lines = []
    for title in dict.fromkeys(map(_kind, checks)):
        mine = [each for each in checks if _kind(each) == title]
        good = sum(each.good is True for each in mine)
        bad = [each.host for each in mine if each.good is False]
        unknown = [each.host for each in mine if each.good is None]
        line = f"{title:<18} {good}/{len(mine)}{mark}"
        line += f"  FAILED on {', '.join(dict.fromkeys(bad))}" if bad else ""
        line += f"  not checked on {', '.join(dict.fromkeys(unknown))}" if unknown else ""
        lines.append(line)
    return lines


def _kind(check: Check) -> str:
    return "node pairs" if check.title.startswith("pods on ") else check.title
