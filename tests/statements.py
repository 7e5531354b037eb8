"""Every SQL statement of the code: the module constants in upper case that begin like one."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType

PACKAGES = ("commercehub", "inventory", "payments", "fulfillment")
STATEMENT = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b")


def modules() -> Iterator[ModuleType]:
    """Every module of ours that is not a migration and does not run when imported."""
    for name in PACKAGES:
        package = importlib.import_module(name)
        yield package
        for found in pkgutil.walk_packages(package.__path__, f"{name}."):
            if ".migrations." not in found.name and not found.name.endswith("__main__"):
                yield importlib.import_module(found.name)


def statements() -> dict[str, str]:
    """Statements by the dotted name of their constant."""
    return {
        f"{module.__name__}.{name}": value
        for module in modules()
        for name, value in vars(module).items()
        if name.isupper() and not name.startswith("_") and isinstance(value, str) and STATEMENT.match(value)
    }
