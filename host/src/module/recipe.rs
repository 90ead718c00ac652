//! Recipe: everything from which a remuxer is made, and can be made again by another generation.

use std::borrow::Cow;
use std::sync::Arc;

use remuxd_plugin_api::{Options, Setup, StreamFacts};

use super::fault::ModuleFault;
use super::loaded::{Module, OwnProcess};
use super::options::{OptionError, OptionKind, OptionSpec, resolve_options};
use super::remuxer::Remuxer;

/// A generation of a module and a value for each of its options. It keeps what the mount and the viewer asked for, so that
/// the next generation can be asked for the same.
#[derive(Clone, Debug)]
pub struct Recipe {
    module: Arc<Module>,
    options: Options,
    /// The options that the mount sets.
    set: Vec<(String, String)>,
    /// The options that the first viewer picked, of those that viewers may set.
    picked: Vec<(String, String)>,
    /// Whether the options of the viewer change nothing.
    is_default: bool,
    /// The pattern of the first viewer's mount, for the log.
    mount: String,
}

impl Recipe {
    /// Combines `module` with the options that a mount sets and a viewer picks in the query.
    ///
    /// # Errors
    /// [`OptionError`]: an option that the module does not declare, or a value that it does not take.
    pub fn new<'q>(
        module: Arc<Module>,
        set: &[(String, String)],
        query: impl Iterator<Item = (Cow<'q, str>, Cow<'q, str>)>,
    ) -> Result<Recipe, OptionError> {
        let may_pick = |key: &str| module.options().iter().any(|spec| spec.variant && spec.name == key);
        let picked = query
            .filter(|(key, _)| may_pick(key))
            .map(|(key, value)| (key.into_owned(), value.into_owned()))
            .collect();
        Recipe::resolve(module, set.to_vec(), picked)
    }

    /// Adds the pattern of the mount, for the log.
    pub fn of_mount(self, pattern: &str) -> Recipe {
        Recipe { mount: pattern.to_owned(), ..self }
    }

    /// The pattern of the mount for which it was made.
    pub fn mount(&self) -> &str {
        &self.mount
    }

    /// Asks another generation for the same.
    ///
    /// # Errors
    /// As for [`new`](Self::new), if the generation has other options.
    pub fn of(&self, module: Arc<Module>) -> Result<Recipe, OptionError> {
        self.with(module, &self.set)
    }

    /// Asks `module` for what the same viewer picked on a mount that sets these options.
    ///
    /// # Errors
    /// As for [`new`](Self::new), if it has other options.
    pub fn with(&self, module: Arc<Module>, set: &[(String, String)]) -> Result<Recipe, OptionError> {
        let next = Recipe::resolve(module, set.to_vec(), self.picked.clone())?;
        Ok(next.of_mount(&self.mount))
    }

    /// The options that the mount sets.
    pub fn set(&self) -> &[(String, String)] {
        &self.set
    }

    fn resolve(
        module: Arc<Module>,
        set: Vec<(String, String)>,
        picked: Vec<(String, String)>,
    ) -> Result<Recipe, OptionError> {
        let query = picked.iter().map(|(key, value)| (Cow::from(key), Cow::from(value)));
        let options = resolve_options(module.options(), &set, query)?;
        let is_default =
            picked.is_empty() || resolve_options(module.options(), &set, std::iter::empty())? == options;
        Ok(Recipe { module, options, set, picked, is_default, mount: String::new() })
    }

    /// The generation.
    pub fn module(&self) -> &Arc<Module> {
        &self.module
    }

    /// A value for each option.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Whether it has the values of the mount, which a URL without a query gets.
    pub fn is_default(&self) -> bool {
        self.is_default
    }

    /// The options that the first viewer picked, as a log may show them: normalized, in the order of the declaration, of texts the
    /// name alone. Empty if they change nothing.
    pub fn variant(&self) -> String {
        let is_picked = |spec: &&OptionSpec| self.picked.iter().any(|(key, _)| *key == spec.name);
        let picked = self.module.options().iter().filter(|_| !self.is_default).filter(is_picked);
        let shown = picked.map(|spec| match spec.kind {
            OptionKind::Text => spec.name.clone(),
            _ => format!("{}={}", spec.name, self.options.text(&spec.name)),
        });
        shown.collect::<Vec<_>>().join("&")
    }

    /// The number of the track that its remuxers get.
    pub fn track(&self) -> u8 {
        let spec = self.module.options().iter().find(|spec| spec.kind == OptionKind::Track);
        spec.and_then(|spec| self.options.text(&spec.name).parse().ok()).unwrap_or(0)
    }

    /// Whether it makes the same blocks as `other`: the same generation and equal values.
    pub fn equals(&self, other: &Recipe) -> bool {
        Arc::ptr_eq(&self.module, &other.module) && self.options == other.options
    }

    /// Makes a remuxer that continues from `state`, if there is one, and runs in `own`, if there is one. Calls into the module.
    ///
    /// # Errors
    /// As for [`Module::remuxer`].
    pub fn remuxer(
        &self,
        stream: StreamFacts,
        state: &[u8],
        own: Option<&OwnProcess>,
    ) -> Result<Remuxer, ModuleFault> {
        let mut setup = Setup::new(self.options.clone(), stream);
        setup.state = state.to_vec();
        self.module.remuxer_in(own, &setup)
    }
}
