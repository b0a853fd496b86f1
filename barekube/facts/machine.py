"""The batch fact: files, packages, units, modules and a table of a host in one round trip."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pyinfra.api import FactBase, FactProcessError, QuoteString, StringCommand


@dataclass(frozen=True)
class File:
    """A file as found; `lines` is None for what is not a regular file."""

    mode: str
    owner: str
    size: int
    changed: float
    lines: list[str] | None = None

    def text(self) -> str:
        """The content, with a line end at its end only where the file has one."""
        lines = self.lines or []
        joined = "\n".join(lines)
        return joined if len(joined.encode()) == self.size else joined + "\n"


@dataclass(frozen=True)
class Package:
    """A package that dpkg knows of. `status` is 'installed' only if it is wholly so."""

    version: str
    held: bool
    status: str


@dataclass(frozen=True)
class Unit:
    """A systemd unit. `since` is when it became active, in seconds of Unix time; 0: it is not."""

    load: str
    active: str
    enabled: str
    since: float


@dataclass
class Found:
    """What `Machine` found. What was asked for and is not in here is not on the host.

    `table` is a table of nftables as `nft list` shows it, `table_wanted` how it would show the
    wanted one; that is only asked where there is a table.
    """

    files: dict[str, File] = field(default_factory=dict)
    packages: dict[str, Package] = field(default_factory=dict)
    units: dict[str, Unit] = field(default_factory=dict)
    modules: set[str] = field(default_factory=set)
    release: dict[str, str] = field(default_factory=dict)
    table: str = ""
    table_wanted: str = ""


_NAMES = ("release", "stat", "lines", "packages", "units", "modules", "table", "wanted")
_SECTIONS = frozenset(f"#{name}" for name in _NAMES)


class Machine(FactBase[Found | None]):
    """Files (with content), packages, units and modules; None: not known.

    Reading only. Paths of directories and links may be asked for: links are followed.
    """

    def command(
        self,
        files: Sequence[str] = (),
        packages: Sequence[str] = (),
        units: Sequence[str] = (),
        modules: Sequence[str] = (),
        secret: Sequence[str] = (),
        table: tuple[str, str] | None = None,
    ) -> StringCommand:
        """`secret` files are looked at, but their content is never read. `table` is the family and
        name of one, and what `nft -f` would be given to make it."""
        parts: list[object] = ["export LC_ALL=C; echo '#release'; cat /etc/os-release;"]
        if files or secret:
            looked_at = [QuoteString(path) for path in (*files, *secret)]
            parts += ["echo '#stat';", "stat -Lc '%a %U:%G %s %.9Y %n'", *looked_at]
            parts += ["2>/dev/null;"]
        if files:
            # NUL ends a path, which may hold a colon.
            parts += ["echo '#lines'; grep -asHZ ''", *map(QuoteString, files), "</dev/null;"]
        if packages:
            form = r"${Package} ${Version} ${db:Status-Want} ${db:Status-Status}\n"
            parts += [f"echo '#packages'; dpkg-query -Wf '{form}'", *map(QuoteString, packages)]
            parts += ["2>/dev/null;"]
        if units:
            wanted = "Id,LoadState,ActiveState,UnitFileState,ActiveEnterTimestamp"
            parts += [f"echo '#units'; systemctl show --timestamp=us+utc -p {wanted} --"]
            parts += [*map(QuoteString, units), "2>/dev/null;"]
        if modules:
            either = "|".join(m.replace("_", "[-_]") for m in modules)
            parts += [
                f"echo '#modules'; grep -hoE '(^|/)({either})(\\.ko| )' /proc/modules",
                '"/lib/modules/$(uname -r)/modules.builtin" 2>/dev/null;',
            ]
        if table:
            name, text = table
            parts += [f"echo '#table'; nft -s list table {name} 2>/dev/null && echo '#wanted' &&"]
            # Loaded in a network namespace of its own, which goes with the command.
            again = f"nft -f - && nft -s list table {name}"
            parts += ["printf %s", QuoteString(text), f"| unshare -n sh -c '{again}' 2>/dev/null;"]
        # No output at all would read as the default: "not known".
        return StringCommand(*parts, "echo '#end'")

    def process(self, output: list[str]) -> Found:
        if output[-1] != "#end":
            raise FactProcessError("the host's answer was cut off; run again")
        sections: dict[str, list[str]] = {}
        current: list[str] = []
        for line in output[:-1]:
            if line in _SECTIONS:
                current = sections.setdefault(line[1:], [])
            else:
                current.append(line)
        found = Found()
        for line in sections.get("release", []):
            key, _, value = line.partition("=")
            found.release[key] = value.strip('"')
        contents: dict[str, list[str]] = {}
        for line in sections.get("lines", []):
            path, _, text = line.partition("\0")
            contents.setdefault(path, []).append(text)
        for line in sections.get("stat", []):
            mode, owner, size, changed, path = line.split(" ", 4)
            found.files[path] = File(mode, owner, int(size), float(changed), contents.get(path))
        for line in sections.get("packages", []):
            fields = line.split(" ")
            if len(fields) == 4 and fields[1]:
                name, version, want, status = fields
                found.packages[name] = Package(version, want == "hold", status)
        for block in "\n".join(sections.get("units", [])).split("\n\n"):
            shown = dict(line.split("=", 1) for line in block.split("\n") if "=" in line)
            if "Id" in shown:
                found.units[shown["Id"]] = Unit(
                    shown.get("LoadState", ""),
                    shown.get("ActiveState", ""),
                    shown.get("UnitFileState", ""),
                    _seconds(shown.get("ActiveEnterTimestamp", "")),
                )
        for line in sections.get("modules", []):
            found.modules.add(line.strip("/ ").removesuffix(".ko").replace("-", "_"))
        found.table = "\n".join(sections.get("table", []))
        found.table_wanted = "\n".join(sections.get("wanted", []))
        return found


def _seconds(timestamp: str) -> float:
    """'Mon 2026-11-23 11:53:40.123456 UTC' of systemctl -> seconds of Unix time; '' -> 0."""
    if timestamp in ("", "n/a"):
        return 0.0
    moment = datetime.strptime(timestamp, "%a %Y-%m-%d %H:%M:%S.%f UTC")
    return moment.replace(tzinfo=UTC).timestamp()
