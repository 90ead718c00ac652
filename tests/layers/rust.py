"""Reads the `use` trees and paths of a Rust crate, and resolves them to the files that define their targets."""

import re
from dataclasses import dataclass, field
from pathlib import Path

TOKEN = re.compile(
    r"""
    (?P<skip>\s+|//[^\n]*)
  | (?P<comment>/\*)
  | (?P<string>(?:b|c)?r(?P<hashes>\#*)"(?:.|\n)*?"(?P=hashes)|(?:b|c)?"(?:\\(?:.|\n)|[^"\\])*")
  | (?P<char>b?'(?:\\(?:x..|u\{[^}]*\}|.)|[^'\\])')
  | (?P<lifetime>'\w+)
  | (?P<word>(?:r\#)?[A-Za-z_]\w*)
  | (?P<number>\d(?:[\w]|\.\d)*)
  | (?P<symbol>::|.)
    """,
    re.VERBOSE,
)
ITEMS = {"fn", "struct", "enum", "trait", "type", "const", "static", "union", "macro_rules"}
OPEN, CLOSE = {"{", "(", "["}, {"}", ")", "]"}


def tokens(text):
    """The words and symbols of a source text, without comments; each literal is `0`."""
    found, at = [], 0
    while at < len(text):
        match = TOKEN.match(text, at)
        at = match.end()
        if match.lastgroup == "comment":
            at = end_of_comment(text, at)
        elif match.lastgroup in ("word", "symbol"):
            found.append(match.group().removeprefix("r#"))
        elif match.lastgroup != "skip":
            found.append("0")
    return found


def end_of_comment(text, at):
    depth = 1
    for match in re.compile(r"/\*|\*/").finditer(text, at):
        depth += 1 if match.group() == "/*" else -1
        if depth == 0:
            return match.end()
    return len(text)


def closing(code, at):
    """The index of the bracket that closes the one at `at`."""
    depth = 0
    for index in range(at, len(code)):
        depth += (code[index] in OPEN) - (code[index] in CLOSE)
        if depth == 0:
            return index
    raise ValueError("a bracket is not closed")


def is_for_tests(attribute):
    """Whether the inside of an attribute is a `cfg` that only test builds satisfy."""
    return attribute[:2] == ["cfg", "("] and "test" in attribute and "not" not in attribute


def end_of_item(code, at):
    """The index behind the item, statement or field that starts at `at`."""
    start = at
    if code[at] == "pub":
        start = closing(code, at + 1) + 1 if code[at + 1] == "(" else at + 1
    ends_at_brace = code[start] not in ("use", "let", "const", "static")
    is_field = code[start] not in ITEMS | {"use", "let", "mod", "impl", "unsafe", "async", "extern"}
    while at < len(code) and code[at] not in CLOSE:
        word = code[at]
        if word in OPEN:
            at = closing(code, at)
            if word == "{" and ends_at_brace:
                return at + 1
        elif word == ";" or (word == "," and is_field):
            return at + 1
        at += 1
    return at


def without_tests(code):
    """The code without the items under `#[cfg(test)]`."""
    kept, at = [], 0
    while at < len(code):
        start = at
        at += 1
        if code[start : at + 1] == ["#", "["]:
            end = closing(code, at)
            is_test, at = is_for_tests(code[at + 1 : end]), end + 1
            if is_test:
                while code[at : at + 2] == ["#", "["]:
                    at = closing(code, at + 1) + 1
                at = end_of_item(code, at)
                continue
        kept += code[start:at]
    return kept


@dataclass
class Import:
    path: list
    reexport: bool


@dataclass
class Module:
    file: Path
    parent: "Module | None"
    name: str
    children: dict = field(default_factory=dict)
    items: set = field(default_factory=set)
    # Items that a path cannot continue from: functions and constants.
    values: set = field(default_factory=set)
    imports: dict = field(default_factory=dict)
    globs: list = field(default_factory=list)
    paths: set = field(default_factory=set)

    def root(self):
        return self.parent.root() if self.parent else self

    def all(self):
        yield self
        for child in self.children.values():
            yield from child.all()


def use_tree(code, at, base):
    """Reads one `use` tree; returns its (path, name) pairs and the index behind it. A glob has the name `*`."""
    path = list(base)
    while True:
        word = code[at]
        if word == "{":
            leaves, at = [], at + 1
            while code[at] != "}":
                found, at = use_tree(code, at, path)
                leaves += found
                at += code[at] == ","
            return leaves, at + 1
        if word == "*":
            return [(path, "*")], at + 1
        if word.isidentifier() and (word != "self" or not path):
            path.append(word)
        at += 1
        if word == "::" or code[at] == "::":
            continue
        name = path[-1]
        if code[at] == "as":
            name, at = code[at + 1], at + 2
        return [(path, name)], at


def read(file, name="crate", parent=None, code=None, home=None):
    """Reads a module and its children. `home` is the folder of its children's files."""
    module = Module(file, parent, name)
    home = home or file.parent
    code = without_tests(tokens(file.read_text())) if code is None else code
    at, depth = 0, 0
    while at < len(code):
        word = code[at]
        if word == "mod" and code[at + 2 : at + 3] in ([";"], ["{"]):
            at = read_child(module, code, at + 1, home)
        elif word == "use" and code[at + 1] != "<":
            at = read_use(module, code, at)
        elif word in ITEMS and depth == 0:
            at = read_item(module, code, at)
        elif word.isidentifier():
            at = read_path(module, code, at)
        else:
            depth += (word == "{") - (word == "}")
            at += 1
    return module


def read_child(module, code, at, home):
    name = code[at]
    if code[at + 1] == ";":
        path = next(path for path in (home / f"{name}.rs", home / name / "mod.rs") if path.exists())
        module.children[name] = read(path, name, module, home=home / name)
        return at + 2
    end = closing(code, at + 1)
    module.children[name] = read(module.file, name, module, code[at + 2 : end], home / name)
    return end + 1


def read_use(module, code, at):
    reexport = code[at - 1 : at] in (["pub"], [")"])
    leaves, at = use_tree(code, at + 1, [])
    for path, leaf in leaves:
        if leaf == "*":
            module.globs.append(Import(path, reexport))
        else:
            module.imports.setdefault(leaf, []).append(Import(path, reexport))
    return at


def read_item(module, code, at):
    is_pointer, kind = code[at - 1 : at] == ["*"], code[at]
    at += 1
    while code[at] in ("!", "mut", "fn", "unsafe", "async"):
        at += 1
    if code[at].isidentifier() and not is_pointer:
        names = module.values if kind in ("fn", "const", "static") else module.items
        names.add(code[at])
        at += 1
    return at


def read_path(module, code, at):
    if code[at - 1 : at] == ["."] and code[at - 2 : at - 1] != ["."]:
        return at + 1
    path = [code[at]]
    while code[at + 1 : at + 2] == ["::"] and code[at + 2].isidentifier():
        at += 2
        path.append(code[at])
    module.paths.add(tuple(path))
    return at + 1


class Crate:
    """The modules of a crate, and of a program over it whose paths start with the library's name."""

    def __init__(self, root, library):
        self.root, self.library, self.name = root, read(root / "lib.rs"), library
        self.modules = list(self.library.all())
        if (root / "main.rs").exists():
            self.modules += read(root / "main.rs").all()

    def resolve(self, module, path, seen=frozenset()):
        """The modules that define the target of `path`, as seen from `module`: none if it is outside the crate or a module."""
        first, rest = path[0], list(path[1:])
        if first == "crate":
            return self.descend(module.root(), rest, seen)
        if first == self.name:
            return self.descend(self.library, rest, seen)
        if first == "self":
            return self.descend(module, rest, seen)
        if first == "super":
            return self.resolve(module.parent, ["self", *rest], seen) if rest[:1] != ["super"] else self.resolve(module.parent, rest, seen)
        return self.descend(module, [first, *rest], seen)

    def descend(self, module, path, seen):
        if not path:
            return set()
        name, rest = path[0], path[1:]
        is_item = name in module.items or (name in module.values and not rest)
        found = {id(module)} if is_item else set()
        if name in module.children:
            found |= self.descend(module.children[name], rest, seen)
        for entry in module.imports.get(name, []):
            if id(entry) not in seen:
                found |= self.resolve(module, [*entry.path, *rest], seen | {id(entry)})
        for entry in module.globs if not found else []:
            if id(entry) not in seen:
                found |= self.resolve(module, [*entry.path, name, *rest], seen | {id(entry)})
        return found

    def arrows(self):
        """The arrows between files: {(from, to): the paths behind it}, with files relative to the root."""
        by_id = {id(module): module for module in self.modules}
        arrows = {}

        def add(module, path):
            for target in self.resolve(module, path):
                target = by_id[target]
                if target.file != module.file:
                    ends = str(module.file.relative_to(self.root)), str(target.file.relative_to(self.root))
                    arrows.setdefault(ends, set()).add("::".join(path))

        for module in self.modules:
            for path in module.paths:
                add(module, list(path))
            for entries in module.imports.values():
                for entry in entries:
                    if not (entry.reexport and self.is_child(module, entry.path)):
                        add(module, entry.path)
        return arrows

    def is_child(self, module, path):
        """Whether a path from `module` starts in a child of it: a re-export of that is no arrow."""
        return path[0] in module.children or (path[0] == "self" and path[1] in module.children)
