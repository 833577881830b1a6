"""Imports an extension's script as the module extensions.NAME.script; relative imports and files beside it work.

Scripts for the original name files of theirs by paths from its folder: "extensions/NAME/voices.json". Here, an
extension's folder may be anywhere (--user-data-dir), so such paths in a script are replaced by its folder's when it is
imported. This module must not know what a script does.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import module_from_spec
from pathlib import Path
from types import CodeType, ModuleType

from errors import InvalidInput

#: Packages that --install-torch adds.
_WITH_TORCH = frozenset({"torch", "transformers", "accelerate", "peft", "safetensors", "tokenizers"})


def import_script(folder: Path) -> ModuleType:
    """Import the script of an extension's folder. Raises: InvalidInput if there is none, or what the script raises."""
    if not (folder / "script.py").is_file():
        raise InvalidInput("its folder contains no script.py")
    if not any(isinstance(each, _ScriptFinder) for each in sys.meta_path):
        sys.meta_path.insert(0, _ScriptFinder())
    for name, path in (("extensions", folder.parent), (f"extensions.{folder.name}", folder)):
        package = sys.modules.get(name) or ModuleType(name)
        package.__path__ = list(dict.fromkeys([*getattr(package, "__path__", []), str(path)]))
        sys.modules[name] = package
    name = f"extensions.{folder.name}.script"
    spec = ModuleSpec(name, _ScriptLoader(name, str(folder / "script.py")), origin=str(folder / "script.py"))
    spec.has_location = True
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        assert spec.loader
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def describe_import_error(error: BaseException, folder: Path) -> str:
    """What is missing and what to do, if a script imports something that is not there; "" for any other error."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    package = error.name.partition(".")[0]
    if package == "modules":
        return f"it uses {error.name} of the original program, which is not supported (see docs/extensions.md)"
    if package == "extensions" or (folder / package).is_dir() or (folder / f"{package}.py").is_file():
        return ""
    if package in _WITH_TORCH:
        return f"it requires {package}. Start the program once with --install-torch"
    return (
        f"it requires {package}, which is not installed. Name its package in {folder / 'requirements.txt'} and press "
        "Install requirements in the Session tab"
    )


class _ScriptFinder(MetaPathFinder):
    """Finds the files beside a script, which name files in the same way."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith("extensions."):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _ScriptLoader(name, spec.loader.path)
        return spec


class _ScriptLoader(SourceFileLoader):
    """Compiles a file of an extension. Not from stored byte code: the paths in it are those of the folder as it is."""

    def get_code(self, fullname: str) -> CodeType:
        name = fullname.split(".")[1]
        folder = next(each for each in Path(self.path).parents if each.name == name)
        tree = _ScriptPaths(name, folder).visit(ast.parse(self.get_data(self.path), self.path))
        return compile(tree, self.path, "exec", dont_inherit=True)


class _ScriptPaths(ast.NodeTransformer):
    """Replaces the original's path of an extension's folder in texts, also as the beginning of an f-string."""

    def __init__(self, name: str, folder: Path) -> None:
        self._pattern = re.compile(rf"(?:\./)?(?:user_data/)?extensions/{re.escape(name)}(?=/|$)")
        self._folder = folder.as_posix()

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        if isinstance(node.value, str) and (found := self._pattern.match(node.value)):
            return ast.copy_location(ast.Constant(self._folder + node.value[found.end() :]), node)
        return node
