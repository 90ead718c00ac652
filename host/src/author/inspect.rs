//! Inspect: a page about a module file, for operators and authors.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::media::Codec;
use crate::module::{
    HOST_ABI, LoadError, Module, OptionKind, OptionSpec, Stage, Terms, load_module, probe, transport_name,
};

/// A module that the host would load. [`Display`](fmt::Display) is a page with its whole description.
#[derive(Debug)]
pub struct Inspected {
    file: PathBuf,
    size: u64,
    module: Arc<Module>,
    // Removes the module's copy on drop.
    _stage: Stage,
}

impl Inspected {
    /// Performs all steps of loading with `file`, including the trial in a child process of `program`.
    ///
    /// # Errors
    /// The first step that refuses it.
    pub fn new(file: &Path, program: &Path) -> Result<Inspected, LoadError> {
        let stage = Stage::new();
        let staged = stage.stage("inspected", file)?;
        let size = fs::metadata(staged.path()).map_err(LoadError::Read)?.len();
        probe(program, &staged)?;
        // No calls follow, so their limits do not matter.
        let terms = Terms { generation: 1, max_output: 0, max_faults: 0, unload: true };
        Ok(Inspected { file: file.to_owned(), size, module: load_module(staged, &terms)?, _stage: stage })
    }
}

impl fmt::Display for Inspected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let module = &self.module;
        let (major, minor) = module.abi();
        let (host_major, host_minor) = HOST_ABI;
        let extensions: Vec<_> =
            module.extensions().iter().map(|extension| format!(".{extension}")).collect();
        let transports: Vec<_> =
            module.transports().iter().map(|&transport| transport_name(transport)).collect();
        writeln!(f, "{}: {} bytes; it would be loaded\n", self.file.display(), self.size)?;
        writeln!(f, "name          {}", module.name())?;
        writeln!(f, "version       {}", module.version())?;
        writeln!(f, "ABI           {major}.{minor}, this host has {host_major}.{host_minor}")?;
        writeln!(f, "extensions    {}", extensions.join(" "))?;
        writeln!(f, "transport     {}", transports.join(" and "))?;
        writeln!(f, "content type  {}", module.content_type())?;
        writeln!(f, "video codecs  {}", codecs(module.video_codecs()))?;
        writeln!(f, "audio codecs  {}", codecs(module.audio_codecs()))?;
        writeln!(f, "built by      {}", module.rustc())?;
        // Rust with panic = "abort" is refused.
        let panics = if module.rustc().starts_with("rustc ") { "unwind" } else { "none, it is not Rust" };
        writeln!(f, "panics        {panics}")?;
        if module.options().is_empty() {
            return writeln!(f, "options       none");
        }
        writeln!(f, "options")?;
        module.options().iter().try_for_each(|option| write_option(f, option))
    }
}

fn codecs(codecs: &[Codec]) -> String {
    match codecs {
        [] => "none".into(),
        codecs => codecs.iter().map(Codec::to_string).collect::<Vec<_>>().join(" "),
    }
}

fn write_option(f: &mut fmt::Formatter<'_>, option: &OptionSpec) -> fmt::Result {
    let bare = matches!(option.kind, OptionKind::Flag | OptionKind::Integer { .. } | OptionKind::Track);
    let default = if bare { option.default.clone() } else { format!("{:?}", option.default) };
    writeln!(f, "  {} = {default}", option.name)?;
    let who = if option.variant { "; viewers may set it in the URL" } else { "" };
    writeln!(f, "      {}{who}", option.kind)?;
    writeln!(f, "      {}", option.doc)
}
