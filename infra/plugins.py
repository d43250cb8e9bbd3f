"""Plug-ins: the modules of a package that define a certain constant. To add a plug-in, add a file.

All modules of the package are imported; those without the constant are helpers and are ignored.
Leaves out: entry points of other distributions.
"""

import importlib
import pkgutil
from typing import Any

from infra.errors import LongmillError


def find_plugins(package: str, constant: str) -> dict[str, Any]:
    """The values of `constant` in the modules of `package`, by their `.name`, sorted by name.

    Raises LongmillError when two modules use the same name.
    """
    plugins: dict[str, Any] = {}
    modules: dict[str, str] = {}
    for module_info in pkgutil.iter_modules(importlib.import_module(package).__path__):
        module = importlib.import_module(f"{package}.{module_info.name}")
        plugin = getattr(module, constant, None)
        if plugin is None:
            continue
        if plugin.name in plugins:
            raise LongmillError(
                f"{modules[plugin.name]} and {module.__name__} both register {plugin.name!r}; rename one of them"
            )
        plugins[plugin.name] = plugin
        modules[plugin.name] = module.__name__
    return dict(sorted(plugins.items()))
