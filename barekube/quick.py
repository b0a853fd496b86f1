"""Questions that pyinfra 3.10.0 asks itself for every operation of every host, answered cheaply.

On fifty hosts they were most of what a run without changes computes. The answers are the same:
what the pinned version of pyinfra asks is the same for a whole run (which arguments and connectors
there are, what inventory and group_data say of a host), or it looks at no more of a frame than its
file and line.
"""

import functools
import inspect
import sys
from copy import copy
from types import FrameType
from typing import Any

from pyinfra.api import arguments, connectors, inventory, util
from pyinfra.api.host import HostData


def _stack() -> list[tuple[FrameType]]:
    """The caller's frames from itself on, as inspect.stack() has them, their sources not read."""
    result = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        result.append((frame,))
        frame = frame.f_back
    return result


def _place(frame: FrameType) -> inspect.Traceback:
    """As inspect.getframeinfo() has it, but for what pyinfra does not look at."""
    code = frame.f_code
    return inspect.Traceback(code.co_filename, frame.f_lineno, code.co_name, None, None)


def _of_host(data: HostData, key: str) -> Any:  # noqa: ANN401
    """As HostData.__getattr__ has it, but what does not change is laid over each other once."""
    own = vars(data)
    assigned, given, of_host, of_groups, of_all, of_deploy = own["datas"]
    if "laid" not in own:
        own["laid"] = {**of_all(), **of_groups(), **of_host()}
    for layer in (assigned, given(), own["laid"], of_deploy()):
        if key in layer:
            return copy(layer[key])
    raise AttributeError(f"Host `{own['host']}` has no data `{key}`")


def make_pyinfra_quick() -> None:
    """Put the answers in the place of pyinfra's; tests/plan holds that they are the same."""
    known: Any = functools.cache(arguments.all_global_arguments)
    arguments.all_global_arguments = known
    found: Any = functools.cache(connectors.get_all_connectors)
    connectors.get_all_connectors = inventory.get_all_connectors = found
    HostData.__getattr__ = _of_host  # type: ignore[method-assign]
    names: Any = util
    names.stack, names.getframeinfo = _stack, _place
