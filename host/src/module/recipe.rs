//! Recipe: what a remuxer is made of, and can be made of again by another generation.

use std::borrow::Cow;
use std::sync::Arc;

use super::options::resolve_options;
use super::{Instance, Module, ModuleFault, OptionError, Options, Setup, StreamFacts};

/// A generation of a module and a value for each of its options; and what was asked for, so that the next generation can
/// be asked the same.
#[derive(Clone, Debug)]
pub struct Recipe {
    module: Arc<Module>,
    options: Options,
    /// What the mount sets.
    set: Vec<(String, String)>,
    /// What the first viewer picked of the options that viewers may set.
    picked: Vec<(String, String)>,
}

impl Recipe {
    /// `module` with the options that a mount sets and a viewer picks in the query.
    ///
    /// # Errors
    /// [`OptionError`]: an option that the module does not know, or a value that it does not take.
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

    /// The same wishes, of another generation.
    ///
    /// # Errors
    /// As for [`new`](Self::new): the generation has other options.
    pub fn of(&self, module: Arc<Module>) -> Result<Recipe, OptionError> {
        Recipe::resolve(module, self.set.clone(), self.picked.clone())
    }

    fn resolve(
        module: Arc<Module>,
        set: Vec<(String, String)>,
        picked: Vec<(String, String)>,
    ) -> Result<Recipe, OptionError> {
        let query = picked.iter().map(|(key, value)| (Cow::from(key), Cow::from(value)));
        let options = resolve_options(module.options(), &set, query)?;
        Ok(Recipe { module, options, set, picked })
    }

    /// The generation.
    pub fn module(&self) -> &Arc<Module> {
        &self.module
    }

    /// Whether it makes the same blocks as `other`: the same generation with equal values.
    pub fn equals(&self, other: &Recipe) -> bool {
        Arc::ptr_eq(&self.module, &other.module) && self.options == other.options
    }

    /// Makes a remuxer that goes on from `state`, if there is one. A call into the module.
    ///
    /// # Errors
    /// As for [`Module::remuxer`].
    pub fn remuxer(&self, stream: StreamFacts, state: &[u8]) -> Result<Instance, ModuleFault> {
        let mut setup = Setup::new(self.options.clone(), stream);
        setup.state = state.to_vec();
        self.module.remuxer(&setup)
    }
}
