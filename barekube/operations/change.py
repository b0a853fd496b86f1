"""Files of a control plane before a change of them, kept on it until it is well with the new ones.

An API server that does not start with its new files takes its cluster's settings with it, so what
was there before has to be on the host.
"""

import hashlib
from collections.abc import Sequence

from pyinfra.api import Host, StringCommand

from barekube import remote
from barekube.facts.living import BEFORE
from barekube.operations.order import alone, changing
from barekube.text import TextFile

FORGET = f"rm -rf {BEFORE}"
# Beside each copy stand the sums of what was written in its place: what somebody else, or an
# upgrade, has written since is left alone.
_PUT_BACK = f"""
[ -d {BEFORE} ] || exit 0; cd {BEFORE}; put=
for k in $(find . -name '*.yaml' -printf '%P '); do
  if sha256sum </$k | grep -qsxFf - $k.written; then
    new=/${{k%/*}}/.${{k##*/}}.new; cp -p $k $new; sync $new; mv $new /$k; put=1; echo /$k
  fi
done
# kubelet waits for minutes before it starts again what ended often, and forgets that so.
[ -z "$put" ] || systemctl restart kubelet
cd /; sync; {FORGET}
"""


def keep(files: Sequence[TextFile]) -> StringCommand:
    """Keep what is there before `files` are written. What a change that was cut off has written
    there counts as little as they do: the copy from before that stays."""
    steps = [f"umask 077; mkdir -p {BEFORE}; cd {BEFORE}"]
    for file in files:
        k = file.path.lstrip("/")
        digest = hashlib.sha256(file.content.encode()).hexdigest()
        steps.append(
            f"mkdir -p {k.rpartition('/')[0]}; if [ -e /{k} ] &&"
            f" ! sha256sum </{k} | grep -qsxFf - {k}.written;"
            f" then rm -f {k}.written; cp -p /{k} {k}.new; sync {k}.new; mv {k}.new {k}; fi;"
            f" echo '{digest}  -' >>{k}.written"
        )
    return changing("; ".join([*steps, "sync"]))


def put_back(host: Host) -> list[str] | None:
    """Put back what was there before a change; the paths, or None if that failed."""
    return remote.lines(host, alone(_PUT_BACK))


def cut_off(host: Host) -> None:
    """Put back what was there before a change that was cut off."""
    if paths := put_back(host):
        host.log(f"a change of {', '.join(paths)} was cut off; taken back, for no API answers")
