"""Small crates, and what the reader and the rules find in them. Run with `python3 -m unittest discover tests/layers`."""

import importlib.machinery
import importlib.util
import tempfile
import unittest
from pathlib import Path

import rust


def script(name):
    loader = importlib.machinery.SourceFileLoader(name, str(Path(__file__).parent / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


layers, names = script("run"), script("names")

TABLE = {"conf": "", "low": "", "high": "low", "high/plain": ""}


def arrows(files):
    with tempfile.TemporaryDirectory() as root:
        for name, text in files.items():
            file = Path(root) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return rust.Crate(Path(root), "sample").arrows()


def two(high, low="pub struct Low; pub fn f() {}"):
    """The arrows from `high.rs` of a crate with two files."""
    found = arrows({"lib.rs": "mod high; mod low;", "high.rs": high, "low.rs": low})
    return {target for source, target in found if source == "high.rs"}


class Reading(unittest.TestCase):
    def test_a_use_is_an_arrow(self):
        for use in [
            "use crate::low::Low;",
            "use super::low::Low;",
            "use super::low::{self, Low};",
            "use super::{low::{f as g}};",
            "pub use crate::low::Low as Renamed;",
            "use {std::io, crate::{low::{Low}}};",
        ]:
            self.assertEqual(two(use), {"low.rs"}, use)

    def test_a_path_in_code_is_an_arrow(self):
        for code in [
            "fn g() { crate::low::f() }",
            "use super::low; fn g() { low::f() }",
            "use super::low as l; fn g(x: &l::Low) {}",
            "fn g() -> Option<super::low::Low> { None }",
            "fn g() { assert!(matches!(x, super::low::Low { .. })) }",
            "use super::low::*; fn g() { f() }",
        ]:
            self.assertEqual(two(code), {"low.rs"}, code)

    def test_what_names_nothing_in_another_file_is_no_arrow(self):
        for code in [
            "use super::low;",
            "use std::low::Low;",
            "// crate::low::f()",
            "/* /* */ use crate::low::Low; */",
            'const A: &str = "crate::low::f()"; const B: &str = r#"use "crate::low::Low;"#;',
            "fn g<'a>(x: &'a str) { x.f(); let c = '\"'; }",
            "use super::low::*; fn g(x: X) { x.f() }",
        ]:
            self.assertEqual(two(code), set(), code)

    def test_test_code_may_use_anything(self):
        for code in [
            "#[cfg(test)] use crate::low::Low;",
            "#[cfg(test)] mod tests { use crate::low::Low; }",
            "#[cfg(any(test, fuzzing))] #[inline] fn g<T>(a: T) -> u8 where T: A { crate::low::f() }",
            "struct S { #[cfg(test)] a: crate::low::Low, b: u8 }",
            "#[cfg(test)] const A: S = S { a: crate::low::f() };",
            "#[cfg(test)] mod tests;",
        ]:
            self.assertEqual(two(code), set(), code)
        self.assertEqual(two("#[cfg(test)] mod tests { x } use crate::low::Low;"), {"low.rs"})
        self.assertEqual(two("fn g() -> impl A + use<'_, Self> { ..crate::low::f() }"), {"low.rs"})
        self.assertEqual(two("struct S { #[cfg(test)] a: u8, b: crate::low::Low }"), {"low.rs"})
        self.assertEqual(two("#[cfg(not(test))] use crate::low::Low;"), {"low.rs"})

    def test_a_reexport_leads_to_the_file_that_defines_the_name(self):
        found = arrows({
            "lib.rs": "pub mod low; mod high;",
            "low/mod.rs": "mod deep; pub use deep::{Deep, f}; pub struct Here;",
            "low/deep.rs": "pub struct Deep; pub fn f() {}",
            "high.rs": "use crate::low::{Deep, Here}; fn g() { crate::low::f() }",
            "main.rs": "use sample::low::Deep;",
        })
        self.assertEqual(set(found), {
            ("high.rs", "low/deep.rs"),
            ("high.rs", "low/mod.rs"),
            ("main.rs", "low/deep.rs"),
        })

    def test_a_function_may_have_the_name_of_a_module(self):
        found = arrows({
            "lib.rs": "mod load; mod high; pub use load::loader::load;",
            "load/mod.rs": "pub mod loader; pub mod deep;",
            "load/loader.rs": "pub fn load() {}",
            "load/deep.rs": "pub struct Deep;",
            "high.rs": "use super::load::deep::Deep;",
        })
        self.assertEqual(set(found), {("high.rs", "load/deep.rs")})

    def test_a_module_that_uses_what_it_reexports_has_an_arrow(self):
        found = arrows({
            "lib.rs": "mod low;",
            "low/mod.rs": "mod deep; pub use self::deep::Deep; fn g(deep: Deep) {}",
            "low/deep.rs": "pub struct Deep;",
        })
        self.assertEqual(set(found), {("low/mod.rs", "low/deep.rs")})


class Rules(unittest.TestCase):
    def findings(self, *pairs):
        return list(layers.findings({pair: {"a::B"} for pair in pairs}, TABLE))

    def test_allowed_arrows_are_no_findings(self):
        self.assertEqual(self.findings(("high/a.rs", "low.rs"), ("low.rs", "conf/a.rs"), ("high/a.rs", "high/b.rs")), [])

    def test_an_arrow_upwards_is_found(self):
        self.assertEqual(self.findings(("low.rs", "high/a.rs")), ["low.rs -> high/a.rs: low may not use high (a::B)"])
        self.assertEqual(len(self.findings(("conf/a.rs", "low.rs"))), 1)

    def test_a_file_may_have_a_row_of_its_own(self):
        self.assertEqual(len(self.findings(("high/plain.rs", "low.rs"))), 1)

    def test_an_area_without_a_row_is_found(self):
        self.assertEqual(len(self.findings(("new.rs", "low.rs"))), 1)

    def test_a_circle_is_found_with_its_shortest_way(self):
        around = [("low/a.rs", "low/b.rs"), ("low/b.rs", "low/c.rs"), ("low/c.rs", "low/a.rs"), ("low/c.rs", "low/d.rs")]
        [found] = self.findings(*around)
        self.assertEqual(found.count("->"), 3, found)
        self.assertNotIn("d.rs", found)


class Names(unittest.TestCase):
    def findings(self, text):
        with tempfile.TemporaryDirectory() as root:
            file = Path(root) / "host/src/stream/ring.rs"
            file.parent.mkdir(parents=True)
            file.write_text("pub struct Ring<E>(E); impl<E> Ring<E> { pub fn push(&self) {} } enum Role { Join } fn free() {}")
            return list(names.findings(text, Path(root)))

    def test_names_that_exist_are_no_findings(self):
        for text in [
            "`stream/ring.rs` `Ring::push`",
            "- `host/src/stream/ring.rs` `Ring`, `free` and `Role::Join`: adds a tag",
            "`stream/` `anything`",
            "`stream/ring.rs` has a limit, `queue_length`",
            "`limits.max_connections`, `Ring::pop`",
        ]:
            self.assertEqual(self.findings(text), [], text)

    def test_missing_files_and_names_are_found(self):
        for text in [
            "`stream/rings.rs`",
            "`stream/ring.rs` `Ring::pop`",
            "`stream/ring.rs` `Ring::push`, `Role::Leave`",
            "`stream/ring.rs`\n  `Mount::push`",
            "`ring.rs`",
        ]:
            self.assertEqual(len(self.findings(text)), 1, text)


if __name__ == "__main__":
    unittest.main()
