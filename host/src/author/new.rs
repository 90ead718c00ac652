//! New: writes a crate for a new module that builds, passes its tests and conforms.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Source of the plugin API, which is on no registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Api {
    /// A directory with the crate.
    Path(PathBuf),
    /// The URL of a git repository with the crate in it.
    Git(String),
}

impl Api {
    /// Parses a directory or a git URL.
    pub fn parse(text: &str) -> Api {
        let git = text.contains("://") || text.starts_with("git@") || text.ends_with(".git");
        if git { Api::Git(text.to_owned()) } else { Api::Path(PathBuf::from(text)) }
    }

    /// Finds the crate in the checkout in which this program was built.
    pub fn of_program(program: &Path) -> Option<Api> {
        let checkout =
            program.ancestors().find(|dir| dir.join("plugin-api/include/remuxd_plugin.h").exists());
        checkout.map(|dir| Api::Path(dir.join("plugin-api")))
    }

    fn toml(&self) -> Result<String, NewError> {
        match self {
            Api::Git(url) => Ok(format!("{{ git = {url:?} }}")),
            Api::Path(path) => {
                let whole = path.canonicalize().ok().filter(|path| path.join("Cargo.toml").exists());
                let path = whole.ok_or_else(|| NewError::NoApi { path: path.clone() })?;
                Ok(format!("{{ path = {path:?} }}"))
            }
        }
    }
}

/// Why no crate was written. The culprit is the author of the module.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NewError {
    /// The name is not a valid module name.
    #[error("{name:?} is not a name of a module (a-z, 0-9 and -, a letter first, 64 at most)")]
    BadName {
        /// The name.
        name: String,
    },
    /// The crate would have the name of one of remuxd's own, on which it depends.
    #[error("the crate of a module {name:?} would be remuxd-{name}, which is the name of another crate")]
    Taken {
        /// The name.
        name: String,
    },
    /// The directory exists.
    #[error("{} is there already; say with --dir where the crate shall be", dir.display())]
    Exists {
        /// The directory.
        dir: PathBuf,
    },
    /// The given source has no plugin API.
    #[error("no crate in {}; --api takes the directory of remuxd's plugin-api, or the URL of its git repository", path.display())]
    NoApi {
        /// The directory.
        path: PathBuf,
    },
    /// No source of the plugin API was given.
    #[error(
        "the plugin API is on no registry: say with --api where it is, a directory or the URL of a git repository"
    )]
    WhereIsApi,
    /// The files cannot be written.
    #[error("{}: {source}", path.display())]
    Write {
        /// The first file that cannot be written.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Longest name of a module, in bytes.
const MAX_NAME: usize = 64;
/// Name of the crate on which all modules depend, without `remuxd-`.
const API: &str = "plugin-api";

/// The files of a crate and their templates.
const FILES: [(&str, &str); 5] = [
    ("Cargo.toml", include_str!("template/Cargo.toml")),
    ("README.md", include_str!("template/README.md")),
    ("src/lib.rs", include_str!("template/lib.rs")),
    (".github/workflows/ci.yml", include_str!("template/ci.yml")),
    (".gitignore", "/target\n"),
];

const CI_WITH_KIT: &str = "      - run: cargo install --git {{url}} remuxd
      - run: remuxd module test target/release/libremuxd_{{file}}.so";

const CI_WITHOUT_KIT: &str = "      # remuxd-plugin-api is a directory of one machine in Cargo.toml: this needs a git repository there. Then add
      # - run: cargo install --git URL remuxd
      # - run: remuxd module test target/release/libremuxd_{{file}}.so";

/// Writes the crate of the module `name` to `dir`, which must not exist, with the plugin API from `api`.
///
/// # Errors
/// [`NewError`]: nothing, or not everything, was written.
pub fn new_module(name: &str, dir: &Path, api: Option<Api>) -> Result<(), NewError> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    if !begins || !name.bytes().all(allowed) || name.len() > MAX_NAME {
        return Err(NewError::BadName { name: name.to_owned() });
    }
    if name == API {
        return Err(NewError::Taken { name: name.to_owned() });
    }
    if fs::symlink_metadata(dir).is_ok() {
        return Err(NewError::Exists { dir: dir.to_owned() });
    }
    let api = api.ok_or(NewError::WhereIsApi)?;
    let (scope, kit) = match &api {
        Api::Git(url) => (", and runs the conformance kit", CI_WITH_KIT.replace("{{url}}", url)),
        Api::Path(_) => ("", CI_WITHOUT_KIT.to_owned()),
    };
    let api = api.toml()?;
    for (file, template) in FILES {
        let path = dir.join(file);
        let text = template
            .replace("{{ci_scope}}", scope)
            .replace("{{ci_kit}}", &kit)
            .replace("{{api}}", &api)
            .replace("{{name}}", name)
            .replace("{{file}}", &name.replace('-', "_"));
        let parent = path.parent().unwrap_or(dir);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, text))
            .map_err(|source| NewError::Write { path, source })?;
    }
    Ok(())
}

/// Returns the default directory of a new module: `remuxd-NAME` in the current directory.
pub fn default_dir(name: &str) -> PathBuf {
    env::current_dir().unwrap_or_default().join(format!("remuxd-{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_source_of_the_plugin_api() {
        for url in ["https://example.com/remuxd", "git@example.com:remuxd", "../remuxd.git"] {
            assert_eq!(Api::parse(url), Api::Git(url.into()));
        }
        assert_eq!(Api::parse("../plugin-api"), Api::Path("../plugin-api".into()));
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let found = Api::of_program(&checkout.join("target/debug/remuxd"));
        assert_eq!(found, Some(Api::Path(checkout.join("plugin-api"))));
        assert_eq!(Api::of_program(Path::new("/usr/bin/remuxd")), None);
    }

    #[test]
    fn refuses_invalid_modules() {
        let absent = Path::new("/nowhere/at/all");
        let api = || Some(Api::Git("https://example.com/remuxd".into()));
        for name in ["", "Flv", "a_b", "3gp", "-a", "../x", "a\n", &"a".repeat(65)] {
            let error = new_module(name, absent, api()).unwrap_err();
            assert!(matches!(error, NewError::BadName { .. }), "{name}: {error}");
        }
        assert!(matches!(new_module("plugin-api", absent, api()), Err(NewError::Taken { .. })));
        let file = Path::new(file!());
        assert!(matches!(
            new_module("a", &Path::new("/proc/none").join(file), api()),
            Err(NewError::Write { .. })
        ));
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(matches!(new_module("a", here, api()), Err(NewError::Exists { .. })));
        assert!(matches!(new_module("a", absent, None), Err(NewError::WhereIsApi)));
        let nothing = Some(Api::Path(absent.to_owned()));
        assert!(matches!(new_module("a", absent, nothing), Err(NewError::NoApi { .. })));
    }
}
