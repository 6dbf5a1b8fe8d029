"""Follows the objects of a pybind11 module through source code and names every use that the module doesn't have.

It reads a handful of modules, not any Python: assignments, calls of functions and classes in these modules, attributes of
`self`, fields of dataclasses, lists, loops and comprehensions. What it can't follow it reports, so that nothing escapes.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.support.kinds import NOTHING, Kind, Kinds, Traced, items, joined, listed
from tests.support.signatures import Signature, plain, signatures

_ENTRY = "library"
"""The function that gives the module; parameters called as in `_NAME` are the module too."""
_NAME = "trt"


def trace(sources: Mapping[str, str], module: ModuleType) -> Traced:
    """Looks at all sources (text by path) together until nothing new is learnt."""
    tracer = _Tracer(sources, module)
    before = -1
    while tracer.learnt != before:
        before, tracer.found = tracer.learnt, Traced()
        tracer.everything()
    return tracer.found


def read(paths: list[Path]) -> dict[str, str]:
    """Sources by their path."""
    return {str(path): path.read_text(encoding="utf-8") for path in paths}


class _Tracer:
    def __init__(self, sources: Mapping[str, str], module: ModuleType) -> None:
        self.module = module
        self.found = Traced()
        self.known: dict[tuple[str, ...], Kinds] = defaultdict(frozenset)
        self.functions: dict[str, tuple[str, ast.FunctionDef]] = {}
        self.classes: dict[str, list[str]] = {}
        for file, text in sources.items():
            for node in ast.parse(text).body:
                if isinstance(node, ast.FunctionDef):
                    self.functions[node.name] = file, node
                if isinstance(node, ast.ClassDef):
                    fields = [part for part in node.body if isinstance(part, ast.AnnAssign)]
                    self.classes[node.name] = [part.target.id for part in fields if isinstance(part.target, ast.Name)]
                    for part in node.body:
                        if isinstance(part, ast.FunctionDef):
                            self.functions[f"{node.name}.{part.name}"] = file, part

    @property
    def learnt(self) -> int:
        return sum(len(kinds) for kinds in self.known.values())

    def learn(self, key: tuple[str, ...], kinds: Kinds) -> None:
        self.known[key] |= kinds

    def everything(self) -> None:
        for name, (file, node) in self.functions.items():
            _Body(self, file, name, node).run()


class _Body(ast.NodeVisitor):
    """One function."""

    def __init__(self, tracer: _Tracer, file: str, name: str, node: ast.FunctionDef) -> None:
        self.tracer, self.file, self.name, self.node = tracer, file, name, node
        self.env: dict[str, Kinds] = defaultdict(frozenset)

    def run(self) -> None:
        owner, _, _ = self.name.rpartition(".")
        arguments = [*self.node.args.args, *self.node.args.kwonlyargs]
        for argument in arguments:
            key = ("parameter", self.name, argument.arg)
            if argument.arg == _NAME:
                self.tracer.learn(key, frozenset({Kind("module")}))
            if argument.arg == "self":
                self.tracer.learn(key, frozenset({Kind("local object", owner)}))
            self.env[argument.arg] = self.tracer.known[key]
            untyped = isinstance(argument.annotation, ast.Name) and argument.annotation.id == "Any"
            if untyped and not self.env[argument.arg]:
                self.wrong(argument, f"{self.name}: nothing is known of the parameter {argument.arg}: Any")
        for statement in self.node.body:
            self.visit(statement)
        returned = self.tracer.known["result", self.name]
        untyped = isinstance(self.node.returns, ast.Name) and self.node.returns.id == "Any"
        if untyped and not returned and self.name != _ENTRY:
            self.wrong(self.node, f"{self.name}: nothing is known of what it returns, which is Any")

    def wrong(self, node: ast.AST, message: str) -> None:
        self.tracer.found.wrong.append(f"{self.file}:{getattr(node, 'lineno', 0)}: {message}")

    # ---- Statements.

    def visit_Assign(self, node: ast.Assign) -> None:
        kinds = self.value(node.value)
        for target in node.targets:
            self.bind(target, kinds)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.bind(node.target, self.value(node.value))

    def visit_For(self, node: ast.For) -> None:
        self.bind(node.target, items(self.value(node.iter)))
        for statement in [*node.body, *node.orelse]:
            self.visit(statement)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None:
            self.tracer.learn(("result", self.name), self.value(node.value))

    def generic_visit(self, node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.value(child)
            else:
                self.visit(child)

    def bind(self, target: ast.expr, kinds: Kinds) -> None:
        if isinstance(target, ast.Name):
            self.env[target.id] |= kinds
        elif isinstance(target, ast.Tuple | ast.List):
            for part in target.elts:
                self.bind(part, items(kinds))
        elif isinstance(target, ast.Attribute):
            for base in self.value(target.value):
                if base.what == "local object":
                    self.tracer.learn(("attribute", base.of, target.attr), kinds)
                if base.what == "object":
                    self.set(target, base.of, kinds)

    def set(self, target: ast.Attribute, owner: type, kinds: Kinds) -> None:
        attribute = self.member(target, owner, target.attr)
        if attribute is None:
            return
        setter = getattr(attribute, "fset", None)
        if setter is None:
            self.wrong(target, f"{owner.__name__}.{target.attr} can't be set")
            return
        for signature in signatures(setter):
            complaint = signature.complaint([self.spelled(kinds)], {}, self.fits)
            if complaint:
                self.wrong(target, f"{owner.__name__}.{target.attr} {complaint}")

    # ---- Expressions.

    def value(self, node: ast.expr) -> Kinds:
        match node:
            case ast.Name():
                return self.env[node.id] | self.named(node.id)
            case ast.Attribute():
                return joined(self.attribute(node, base) for base in self.value(node.value))
            case ast.Call():
                return self.call(node)
            case ast.Subscript():
                self.value(node.slice)
                return items(self.value(node.value))
            case ast.IfExp():
                self.value(node.test)
                return self.value(node.body) | self.value(node.orelse)
            case ast.BoolOp():
                return joined(self.value(part) for part in node.values)
            case ast.NamedExpr():
                kinds = self.value(node.value)
                self.bind(node.target, kinds)
                return kinds
        return self.collected(node)

    def collected(self, node: ast.expr) -> Kinds:
        match node:
            case ast.ListComp() | ast.GeneratorExp() | ast.SetComp():
                for part in node.generators:
                    self.bind(part.target, items(self.value(part.iter)))
                    for condition in part.ifs:
                        self.value(condition)
                return listed(self.value(node.elt))
            case ast.List() | ast.Tuple() | ast.Set():
                return listed(joined(self.value(part) for part in node.elts))
            case ast.Dict():
                return listed(joined(self.value(part) for part in node.values))
        self.generic_visit(node)
        return NOTHING

    def named(self, name: str) -> Kinds:
        if name in self.tracer.classes:
            return frozenset({Kind("local class", name)})
        return frozenset({Kind("function", name)}) if name in self.tracer.functions or name == _ENTRY else NOTHING

    def attribute(self, node: ast.Attribute, base: Kind) -> Kinds:
        match base.what:
            case "module":
                return self.given(self.member(node, self.tracer.module, node.attr))
            case "class" | "object":
                member = self.member(node, base.of, node.attr)
                if isinstance(member, property):
                    results = [signature.result for signature in signatures(member.fget)]
                    return joined(self.typed(result) for result in results)
                if callable(member) and not isinstance(member, type):
                    return frozenset({Kind("method", base.of, node.attr)})
                return self.given(member)
            case "local object" | "local class":
                if f"{base.of}.{node.attr}" in self.tracer.functions:
                    return frozenset({Kind("function", f"{base.of}.{node.attr}")})
                return self.tracer.known["attribute", base.of, node.attr]
        return NOTHING

    def member(self, node: ast.AST, owner: Any, name: str) -> Any:
        self.tracer.found.seen.add(f"{owner.__name__.rpartition('.')[2]}.{name}")
        if not hasattr(owner, name):
            self.wrong(node, f"{owner.__name__} has no {name}")
            return None
        return getattr(owner, name)

    def given(self, member: Any) -> Kinds:
        if isinstance(member, type):
            return frozenset({Kind("class", member)})
        bound = type(member).__module__.startswith(self.tracer.module.__name__)
        return frozenset({Kind("object", type(member))}) if bound else NOTHING

    def typed(self, name: str) -> Kinds:
        if name.startswith("list["):
            return listed(self.typed(name[5:-1]))
        found = getattr(self.tracer.module, plain(name), None)
        return frozenset({Kind("object", found)}) if isinstance(found, type) else NOTHING

    # ---- Calls.

    def call(self, node: ast.Call) -> Kinds:
        called = self.value(node.func)
        positional = [self.value(part) for part in node.args]
        keywords = {part.arg: self.value(part.value) for part in node.keywords if part.arg}
        if isinstance(node.func, ast.Name) and node.func.id == "getattr" and positional and positional[0]:
            self.wrong(node, "getattr hides which name is meant; write it out")
        return joined(self.called(node, kind, positional, keywords) for kind in called)

    def called(self, node: ast.Call, kind: Kind, positional: list[Kinds], named: dict[str, Kinds]) -> Kinds:
        match kind.what:
            case "method":
                label = f"{kind.of.__name__}.{kind.name}"
                found = self.fitting(node, label, signatures(getattr(kind.of, kind.name)), positional, named)
                return joined(self.typed(signature.result) for signature in found)
            case "class":
                self.fitting(node, kind.of.__name__, signatures(kind.of.__init__), positional, named)
                return frozenset({Kind("object", kind.of)})
            case "local class":
                own = f"{kind.of}.__init__"
                if own in self.tracer.functions:
                    self.passed(own, positional, named, skip=1)
                pairs = [*zip(self.tracer.classes[kind.of], positional, strict=False), *named.items()]
                for name, kinds in pairs:
                    self.tracer.learn(("attribute", kind.of, name), kinds)
                return frozenset({Kind("local object", kind.of)})
            case "function":
                if kind.of == _ENTRY:
                    return frozenset({Kind("module")})
                self.passed(kind.of, positional, named, skip=int("." in kind.of))
                return self.tracer.known["result", kind.of]
        return NOTHING

    def passed(self, function: str, positional: list[Kinds], named: dict[str, Kinds], *, skip: int) -> None:
        _, node = self.tracer.functions[function]
        names = [argument.arg for argument in node.args.args][skip:]
        for name, kinds in [*zip(names, positional, strict=False), *named.items()]:
            self.tracer.learn(("parameter", function, name), kinds)

    def fitting(
        self, node: ast.Call, label: str, known: tuple[Signature, ...], positional: list[Kinds], named: dict[str, Kinds]
    ) -> list[Signature]:
        """The overloads that take the call; without one it is wrong."""
        spelled = [self.spelled(kinds) for kinds in positional]
        keywords = {name: self.spelled(kinds) for name, kinds in named.items()}
        complaints = [(signature, signature.complaint(spelled, keywords, self.fits)) for signature in known]
        found = [signature for signature, complaint in complaints if complaint is None]
        if not found:
            said = " or ".join(dict.fromkeys(str(complaint) for _, complaint in complaints))
            self.wrong(node, f"{label} {said or 'can not be called'}")
        return found

    def spelled(self, kinds: Kinds) -> str:
        """The type of an argument where it is one class of the module, else nothing."""
        classes = {kind.of for kind in kinds if kind.what == "object"}
        return classes.pop().__name__ if len(classes) == 1 else ""

    def fits(self, given: str, wanted: str) -> bool:
        if given == wanted:
            return True
        target = getattr(self.tracer.module, wanted, None)
        if not isinstance(target, type):
            return wanted in ("object", "SupportsInt", "Buffer")
        return any(base.__name__ == wanted for base in getattr(self.tracer.module, given).__mro__)
