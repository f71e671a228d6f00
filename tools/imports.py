"""Which modules of our own a piece of code imports, found in its text: nothing is executed."""

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple


class Import(NamedTuple):
    """One import statement, as it is written.

    Attributes:
        level: number of leading dots; 0: absolute.
        module: dotted name behind the dots; "" in `from . import x`.
        names: what is imported from the module; none in `import module`.
    """

    level: int
    module: str
    names: tuple[str, ...]


def find_modules(root: Path, packages: Iterable[str]) -> dict[str, Path]:
    """Dotted names and files of all modules in the packages, those of sub-packages included.

    Args:
        root: folder of the packages.
        packages: names of folders in it; those that do not exist are left out.
    """
    found = {}
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            if parts[-1] == "__init__":
                parts = parts[:-1]
            found[".".join(parts)] = path
    return found


@cache
def statements(code: bytes | str) -> tuple[Import, ...]:
    """All import statements of a module or a code cell, those inside functions included."""
    return tuple(imports_in(ast.parse(code)))


def imports_in(tree: ast.AST) -> Iterator[Import]:
    """All import statements in a syntax tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(0, alias.name, ())
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            yield Import(node.level, node.module or "", names)


def targets(found: Iterable[Import], modules: Collection[str], package: str = "") -> set[str]:
    """Dotted names of the modules that import statements ask for; others are passed over.

    `from package import name` asks for the module `package.name` where there is one, and for
    `package` otherwise.

    Args:
        found: the statements.
        modules: names of the modules that count.
        package: package in which the statements stand, for relative ones.
    """
    wanted = set()
    for level, module, names in found:
        if level:
            parents = package.split(".")
            above = parents[: len(parents) - level + 1]
            module = ".".join([*above, module] if module else above)
        for name in names or ("",):
            submodule = f"{module}.{name}"
            if submodule in modules:
                wanted.add(submodule)
            elif module in modules:
                wanted.add(module)
    return wanted


def package_of(module: str, path: Path) -> str:
    """The package that relative imports of a module start from."""
    return module if path.name == "__init__.py" else module.rpartition(".")[0]


def graph(modules: Mapping[str, Path]) -> dict[str, set[str]]:
    """For each module those that it imports, wherever the statement stands in it.

    Args:
        modules: dotted names and files, as `find_modules` returns them.
    """
    return {
        name: targets(statements(path.read_bytes()), modules, package_of(name, path))
        for name, path in modules.items()
    }


def with_parents(names: Iterable[str], modules: Collection[str]) -> set[str]:
    """The modules and the packages that they are in, which Python executes before them."""
    found = set()
    for name in names:
        parts = name.split(".")
        found |= {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
    return found & set(modules)


def reached(names: Iterable[str], modules: Mapping[str, Path]) -> set[str]:
    """All modules that Python executes when these are imported: they, and what they import."""
    arrows = graph(modules)
    done: set[str] = set()
    waiting = with_parents(names, modules)
    while waiting:
        done |= waiting
        wanted = {target for name in waiting for target in arrows[name]}
        waiting = with_parents(wanted, modules) - done
    return done


def circles(arrows: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Groups of modules that import each other, directly or by way of others; sorted.

    Args:
        arrows: for each module those that it imports, as `graph` returns them.
    """
    beyond = {name: _beyond(name, arrows) for name in arrows}
    groups = {
        frozenset(other for other in beyond[name] if name in beyond[other])
        for name in arrows
        if name in beyond[name]
    }
    return sorted(sorted(group) for group in groups)


def _beyond(name: str, arrows: Mapping[str, Iterable[str]]) -> set[str]:
    """All modules that a module leads to; itself only if it is in a circle."""
    done: set[str] = set()
    waiting = set(arrows[name])
    while waiting:
        done |= waiting
        waiting = {target for known in waiting for target in arrows[known]} - done
    return done
