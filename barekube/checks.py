"""What can be wrong with the command line, the inventory and group_data, before anything connects.

Each problem is one sentence: which file, what is wrong, what to do.
"""

import difflib
import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyinfra_cli.util import parse_cli_arg

from barekube.keys import ASKED, CLUSTER, HOST, NAME, READ, WHOLE, Kind

GROUPS = ("control_plane", "workers", "edge", "storage")


def nearest(word: str, known: Iterable[str]) -> str:
    """'; did you mean <the nearest known one>?', or the end of a sentence without a guess."""
    near = _nearest(word, known)
    return f"; did you mean {near}?" if near else "; correct or remove it"


def _nearest(word: str, known: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)), None)


def data(
    file: str, values: Mapping[str, object], known: Mapping[str, Kind], within: str = ""
) -> list[str]:
    """The problems of the keys and values of one file, or of the dict `within` it."""
    problems = []
    for key, value in values.items():
        kind = known.get(key)
        if kind is None:
            shown = f"{within}{key}" or "a name that is empty"
            problems.append(f"{file}: {shown} is no known key{nearest(str(key), known)}")
        elif not kind.fits(value):
            # A password can look like a number.
            shown = "not as it must be" if key.endswith("_password") else repr(value)
            problems.append(f"{file}: {within}{key} is {shown}; make it {kind.words}")
        elif isinstance(value, dict) and kind.fields is not None:
            problems += data(file, value, kind.fields, f"{within}{key}.")
    return problems


def data_of_some(file: str, values: Mapping[str, object]) -> list[str]:
    """The problems of data that holds for some hosts only: a group's, or one host's."""
    whole = [
        f"{file}: {key} is the whole cluster's; set it in group_data/all.py"
        for key in values
        if key in WHOLE
    ]
    own = {key: value for key, value in values.items() if key not in WHOLE}
    return whole + data(file, own, {**CLUSTER, **HOST})


def overrides(given: Iterable[str]) -> tuple[dict[str, object], list[str]]:
    """What --data says, as pyinfra reads it, and what is wrong with it."""
    values: dict[str, object] = {}
    problems = []
    for each in given:
        key, sign, text = each.partition("=")
        if sign:
            values[key] = parse_cli_arg(text)
        else:
            problems.append(f"--data {each} has no value; write --data {each}=VALUE")
    return values, problems + data("--data", values, {**CLUSTER, **HOST, **ASKED})


# What names a host.
_NAMING = {"node", "host"}


def unread(values: Iterable[str], deploys: Sequence[str]) -> list[str]:
    """A sentence for each key of --data that no deploy of the command (their paths) reads, though
    another one does: whoever says `reset.py --data node=NAME` means one host, and loses all."""
    stems = [Path(each).stem for each in deploys]
    if not stems or not set(stems) <= set(READ):
        return []
    read = {key for stem in stems for key in READ[stem]}
    names = ", ".join(f"{stem}.py" for stem in stems)
    reads = f" (it reads {' and '.join(f'--data {key}' for key in sorted(read))})" if read else ""
    if "reset" in stems:
        instead = ", for one node leaves by deploys/remove_node.py"
    else:
        instead = "" if read & _NAMING else ", and name hosts by --limit"
    return [
        f"--data {key} means nothing to {names}; leave it out"
        f"{instead if key in _NAMING else ''}{reads}"
        for key in values
        if key in ASKED and key not in read
    ]


def group_data(
    file: str, stem: str, values: Mapping[str, object], groups: Iterable[str]
) -> list[str]:
    """The problems of a file of group_data, <stem>.py; it may belong to no group."""
    if stem == "all":
        return data(file, values, {**CLUSTER, **HOST})
    problems = []
    known = {*GROUPS, *groups, "all"}
    if stem not in known:
        problems = [f"{file}: {stem} is no group of the inventory{nearest(stem, known)}"]
    return problems + data_of_some(file, values)


def cluster(values: Mapping[str, object]) -> list[str]:
    """What is missing of all that group_data says for all hosts together."""
    return [
        f"group_data/all.py: {key} is missing; make it {kind.words}"
        for key, kind in CLUSTER.items()
        if key not in values
    ]


def bundle(file: str, values: Mapping[str, object]) -> list[str]:
    """What a bundle lacks that the file gives to all hosts or some; `values` hold for those."""
    if not values.get("bundle_url"):
        return []
    problems = [
        f"{file}: bundle_url needs {key}; `python -m bundle list` shows it"
        for key in ("bundle_ca", "bundle_key")
        if not values.get(key)
    ]
    if ca := values.get("bundle_ca"):
        try:
            good = b"BEGIN CERTIFICATE" in Path(str(ca)).read_bytes()
            wrong = None if good else "is no certificate"
        except OSError as error:
            wrong = f"cannot be read ({error.strerror})"
        if wrong:
            problems.append(f"{file}: bundle_ca {ca} {wrong}; `python -m bundle list` shows it")
    return problems


def bundles(file: str, values: Mapping[str, object]) -> dict[str, Mapping[str, object]]:
    """Where an inventory's names set a bundle for a group or a host -> the data that does."""
    some: dict[str, Mapping[str, object]] = {}
    for group, value in values.items():
        if is_group(group, value) and not is_misshapen(group, value):
            some |= {f"{file}, {group}": value[1]} if isinstance(value, tuple) else {}
            for entry in members(value):
                name, own = _named(entry)
                some |= {f"{file}, {name}": own} if isinstance(own, dict) else {}
    return {shown: own for shown, own in some.items() if "bundle_url" in own}


def is_group(name: str, value: object) -> bool:
    """Whether pyinfra takes a name of the inventory's file for a group: a list, or (list, data)."""
    return not name.startswith("_") and isinstance(value, list | tuple)


def is_misshapen(name: str, value: object) -> bool:
    """Whether it was meant for a group, or pyinfra stumbles over it as one."""
    if name.startswith("_"):
        return False
    if isinstance(value, tuple):
        pair = len(value) == 2 and isinstance(value[1], dict)
        return not pair or not isinstance(value[0], list | tuple)
    return name in GROUPS and not isinstance(value, list)


def members(value: object) -> list[object]:
    """The hosts of a group as written: texts, or tuples of text and data."""
    inner = value[0] if isinstance(value, tuple) else value
    return list(inner) if isinstance(inner, list | tuple) else []


def _named(entry: object) -> tuple[object, object]:
    """The name and the data of a host as written, which may be of any shape."""
    return entry if isinstance(entry, tuple) and len(entry) == 2 else (entry, {})


def inventory(file: str, values: Mapping[str, object]) -> tuple[dict[str, list[str]], list[str]]:
    """The groups (name to hosts' names) of an inventory file's names, and its problems."""
    groups: dict[str, list[str]] = {}
    misshapen = []
    problems = []
    for group, value in values.items():
        if is_misshapen(group, value):
            otherwise = "" if group in GROUPS else ", or begin its name with _ if it is no group"
            misshapen.append(f"{file}: {group} is {value!r}; make it a list{otherwise}")
            groups[group] = []
            continue
        if not is_group(group, value):
            continue
        if isinstance(value, tuple):
            problems += data_of_some(f"{file}, {group}", value[1])
        groups[group] = []
        if group not in GROUPS and (near := nearest(group, GROUPS)).startswith("; did"):
            problems.append(f"{file}: {group} is no group of barekube's{near}")
        for entry in members(value):
            name, own = _named(entry)
            # pyinfra stumbles over a host without a name.
            if not isinstance(name, str) or not name or not isinstance(own, dict):
                problems.append(
                    f'{file}: {entry!r} in {group} is no host; write "NAME" or ("NAME", {{...}})'
                )
                continue
            groups[group].append(name)
            problems += data_of_some(f"{file}, {name}", own)
            if not name.startswith("@") and not re.fullmatch(NAME, name):
                problems.append(
                    f"{file}: {name!r} cannot be a node's name; use lower-case letters, digits,"
                    " '-' and '.'"
                )
    # A group that was not understood has its hosts all the same; one host can be in many.
    found = misshapen + problems + ([] if misshapen else _membership(file, groups))
    return groups, list(dict.fromkeys(found))


def _membership(file: str, groups: Mapping[str, Sequence[str]]) -> list[str]:
    nodes = [*groups.get("control_plane", ()), *groups.get("workers", ())]
    if not nodes:
        return [
            f"{file} names no machine; write yours into it, or try `make lab`, which brings some"
        ]
    problems = []
    if not groups.get("control_plane"):
        problems.append(f"{file}: control_plane is empty; name one machine in it, better three")
    problems += [
        f"{file}: {name} is named {nodes.count(name)} times; name it once, in control_plane or in"
        " workers"
        for name in dict.fromkeys(nodes)
        if nodes.count(name) > 1
    ]
    problems += [
        f"{file}: {name} is in {group}, and neither in control_plane nor in workers"
        f"{nearest(name, nodes)}"
        for group in groups
        # One that was meant to be ours is named already.
        if group in GROUPS or not _nearest(group, GROUPS)
        for name in groups[group]
        if name not in nodes
    ]
    problems += [
        f"{file}: {name} is in edge and in control_plane; a host that faces the internet is a"
        " worker, name it in workers"
        for name in groups.get("edge", ())
        if name in groups.get("control_plane", ())
    ]
    return problems


def limits(option: str, patterns: Iterable[str], groups: Mapping[str, Sequence[str]]) -> list[str]:
    """The problem of each --limit or --exclude that is no group with hosts, and matches no host."""
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    # pyinfra has data for `all`, and takes it for no group here.
    full = [group for group in groups if groups[group] and group != "all"]
    return [
        f"{option} {pattern} matches no host of the inventory{nearest(pattern, [*names, *full])}"
        for pattern in patterns
        if pattern not in full and not fnmatch.filter(names, pattern)
    ]


def options(given: Mapping[str, Any]) -> list[str]:
    """The problems of pyinfra's own options; `given` are those of the command line."""
    problems = []
    if given.get("dry") and given.get("yes"):
        problems.append("--dry with -y compares nothing; leave -y out")
    if "drift.py" in str(given.get("operations")) and not given.get("dry"):
        problems.append("drift.py only compares; add --dry")
    problems += [
        f"--group-data {each} is neither a directory nor a Python file; correct it"
        for each in map(Path, given["group_data"])
        if not each.is_dir() and not (each.is_file() and each.suffix == ".py")
    ]
    for key in ("serial", "no_wait"):
        if given.get(key):
            problems.append(
                f"--{key.replace('_', '-')} breaks the order that hosts wait for each other in;"
                " leave it out"
            )
    return problems
