"""What maintenance asks a host: what can be upgraded, and whether it has to be rebooted."""

from pyinfra.api import FactBase, FactProcessError, StringCommand

from barekube.maintain import Upkeep

_LOOK = r"""
export LC_ALL=C; echo "running $(uname -r)"; sed -n 's/^btime/booted/p' /proc/stat
for f in /run/reboot-required /var/run/reboot-required; do [ ! -e $f ] || echo "required $f"; done
for f in /boot/vmlinuz-*; do
  [ ! -e "$f" ] || echo "kernel ${f#/boot/vmlinuz-} $(stat -c %Z "$f")"; done
{ apt-get -s -qq -o Debug::NoLocking=1 --with-new-pkgs upgrade 2>/dev/null || echo broken apt; } |
  sed -n 's/^Inst \([^ ]*\).*/upgrade \1/p; /^broken apt$/p'
echo end
"""


class UpkeepFact(FactBase[Upkeep | None]):
    """The Upkeep of a host, by the package lists that it has; None: not known."""

    def command(self) -> StringCommand:
        return StringCommand(_LOOK.strip())

    def process(self, output: list[str]) -> Upkeep:
        if output[-1] != "end":
            raise FactProcessError("the host's answer was cut off; run again")
        rows = [line.split() for line in output[:-1]]
        values = {row[0]: row[1] for row in rows}
        return Upkeep(
            running=values["running"],
            booted=int(values["booted"]),
            kernels={row[1]: int(row[2]) for row in rows if row[0] == "kernel"},
            required="required" in values,
            broken="broken" in values,
            upgradable=tuple(row[1] for row in rows if row[0] == "upgrade"),
        )
