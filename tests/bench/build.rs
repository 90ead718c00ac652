//! Each module defines the symbols by which a host finds it. The programs that link several of them use none of these symbols.

fn main() {
    println!("cargo:rustc-link-arg=-Wl,--allow-multiple-definition");
    println!("cargo:rerun-if-changed=build.rs");
}
