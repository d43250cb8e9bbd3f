"""Plug-ins: every module of a package that holds a named constant. Adding one is adding a file.

The package is listed and its modules imported at the first call; a module without the constant is help for
the others and passed over. Leaves out: entry points of other distributions.
"""

import importlib
import pkgutil
from typing import Any

from infra.errors import LongmillError


def find_plugins(package: str, constant: str) -> dict[str, Any]:
    """The `constant` of each module of `package` that has one, by its `.name`, sorted by name.

    Raises LongmillError when two files give the same name.
    """
    found: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for module_info in pkgutil.iter_modules(importlib.import_module(package).__path__):
        module = importlib.import_module(f"{package}.{module_info.name}")
        plugin = getattr(module, constant, None)
        if plugin is None:
            continue
        if plugin.name in found:
            raise LongmillError(
                f"{origin[plugin.name]} and {module.__name__} both register {plugin.name!r}; rename one of them"
            )
        found[plugin.name] = plugin
        origin[plugin.name] = module.__name__
    return dict(sorted(found.items()))
