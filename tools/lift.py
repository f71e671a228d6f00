"""Functions out of a notebook's text, so that tests can call them without running the notebook."""

import ast
from collections.abc import Mapping
from typing import Any

from nbformat import NotebookNode

from tools.checks import exercises, solution_code, wrong_answers
from tools.syntax import as_python


def lift(
    notebook: NotebookNode, *names: str, given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Defines names of a notebook, and what they use in turn, in a namespace of their own.

    Functions, classes, imports and ALL_CAPS constants at the top level of code cells are lifted;
    other variables are not, and a function that needs them is not a plain function.

    Args:
        notebook: the notebook or its source; exercise cells are left out.
        names: what to define. Names that the notebook does not define are passed over, as they
            may be builtins.
        given: names that have these values, instead of what the notebook computes.

    Returns:
        The namespace after the definitions ran.
    """
    statements = [
        statement
        for cell in notebook.cells
        if cell.cell_type == "code" and not cell.metadata.get("tags")
        for statement in ast.parse(as_python(cell.source)).body
    ]
    definitions = {name: node for node in statements for name in _defined_names(node)}
    wanted: set[str] = set()
    pending = list(names)
    namespace: dict[str, Any] = dict(given or {})
    for name in namespace:
        definitions.pop(name, None)
    while pending:
        name = pending.pop()
        if name in definitions and name not in wanted:
            wanted.add(name)
            pending += used_names(definitions[name])
    kept = [node for node in statements if wanted.intersection(_defined_names(node))]
    exec(compile(ast.Module(kept, type_ignores=[]), "<notebook>", "exec"), namespace)
    return namespace


def used_names(tree: ast.AST) -> set[str]:
    """All variable names that occur in a piece of code."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _defined_names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [(alias.asname or alias.name).split(".")[0] for alias in node.names]
    if isinstance(node, ast.Assign):
        targets = [target.id for target in node.targets if isinstance(target, ast.Name)]
        return [name for name in targets if name.isupper()]
    return []


def exercise_problems(notebook: NotebookNode) -> list[str]:
    """Whether each stub fails, each solution passes, and each check can tell the difference.

    The check cell runs three times: on the stub, which must raise NotImplementedError and be
    reported as not solved; on the solution, which must pass; on a function that returns None for
    every input, which must not pass. It runs again on each classic wrong answer, the further Python
    blocks of the solution, which must end in an AssertionError that says something.
    """
    problems = []
    for number, cells in sorted(exercises(notebook).items()):
        stub, check = cells["stub"].source, cells["check"].source
        solution = solution_code(cells["solution"])
        (function,) = (
            node.name for node in ast.parse(stub).body if isinstance(node, ast.FunctionDef)
        )
        wrong = f"def {function}(*arguments, **options):\n    return None\n"
        if (outcome := _outcome(notebook, stub, check, function)) != "not solved":
            problems.append(f"exercise {number}: on its stub the check ends as {outcome!r}")
        if (outcome := _outcome(notebook, solution, check, function)) != "solved":
            problems.append(f"exercise {number}: on its solution the check ends as {outcome!r}")
        if (outcome := _outcome(notebook, wrong, check, function)) in ("solved", "not solved"):
            problems.append(f"exercise {number}: on a wrong answer the check ends as {outcome!r}")
        for place, answer in enumerate(wrong_answers(cells["solution"]), start=1):
            outcome = _outcome(notebook, answer, check, function)
            if outcome != "AssertionError with a hint":
                problems.append(
                    f"exercise {number}: on classic wrong answer {place} the check ends as "
                    f"{outcome!r}"
                )
    return problems


def _outcome(notebook: NotebookNode, answer: str, check: str, function: str) -> str:
    """How the check ends: "solved", "not solved", or the name of the exception that left it."""
    namespace = lift(notebook, *used_names(ast.parse(f"{answer}\n{check}")) - {function})
    exec(compile(answer, "<answer>", "exec"), namespace)
    answered = namespace[function]
    unsolved = []

    def spy(*arguments: Any, **options: Any) -> Any:
        try:
            return answered(*arguments, **options)
        except NotImplementedError as reason:
            unsolved.append(reason)
            raise

    namespace[function] = spy
    try:
        exec(compile(check, "<check>", "exec"), namespace)
    except AssertionError as failure:
        return "AssertionError with a hint" if str(failure) else "AssertionError"
    except Exception as failure:
        return type(failure).__name__
    return "not solved" if unsolved else "solved"
