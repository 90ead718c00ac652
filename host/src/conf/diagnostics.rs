//! Errors and warnings in a config, shown the way rustc shows them: file, line, column, the line itself.
//!
//! A warning is for a setting that cannot be meant but does no harm: it is shown, and the config is used.
//!
//! Invariants: all errors are collected before any is shown, and they are shown in the order of the file.
//! The culprit is always the operator, so a text never says what the host was doing, only what to change.

use std::fmt;
use std::sync::Arc;

use annotate_snippets::{Annotation, AnnotationKind, Level, Padding, Renderer, Snippet};

use super::source::{Location, Source};

/// The errors and warnings found so far in one config.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    source: Arc<Source>,
    list: Vec<Diagnostic>,
}

/// The errors in a config that is refused, and the warnings. Culprit: operator.
#[derive(Clone, Debug)]
pub struct ConfigErrors(Diagnostics);

/// The warnings about a config that is used.
#[derive(Clone, Debug, Default)]
pub struct Warnings(Diagnostics);

/// One error or warning.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    severity: Severity,
    title: String,
    label: Label,
    others: Vec<Label>,
    help: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    Error,
    Warning,
}

/// A text under a location; not shown without one.
#[derive(Clone, Debug)]
struct Label {
    location: Option<Location>,
    text: String,
}

impl Diagnostics {
    /// Returns an empty list for `source`.
    pub fn of(source: Arc<Source>) -> Diagnostics {
        Diagnostics { source, list: Vec::new() }
    }

    /// The file, for looking up locations.
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    pub(super) fn source_mut(&mut self) -> &mut Source {
        Arc::make_mut(&mut self.source)
    }

    /// Adds an error: `title` says what is wrong, `label` is shown under `location`. The returned diagnostic takes
    /// further locations and help.
    pub fn error(
        &mut self,
        title: impl fmt::Display,
        location: Option<Location>,
        label: impl fmt::Display,
    ) -> &mut Diagnostic {
        self.add(Severity::Error, title, location, label)
    }

    /// Adds a warning, as [`error`](Self::error) adds an error.
    pub fn warning(
        &mut self,
        title: impl fmt::Display,
        location: Option<Location>,
        label: impl fmt::Display,
    ) -> &mut Diagnostic {
        self.add(Severity::Warning, title, location, label)
    }

    fn add(
        &mut self,
        severity: Severity,
        title: impl fmt::Display,
        location: Option<Location>,
        label: impl fmt::Display,
    ) -> &mut Diagnostic {
        let label = Label { location, text: label.to_string() };
        let (others, help) = (Vec::new(), Vec::new());
        self.list.push(Diagnostic { severity, title: title.to_string(), label, others, help });
        let last = self.list.len() - 1;
        &mut self.list[last]
    }

    /// Returns whether a diagnostic was added at `location`.
    pub(super) fn covers(&self, location: &Option<Location>) -> bool {
        self.list.iter().any(|diagnostic| diagnostic.label.location == *location)
    }

    /// Returns the warnings.
    ///
    /// # Errors
    /// Everything, if there is at least one error.
    pub fn finish(mut self) -> Result<Warnings, ConfigErrors> {
        self.list.sort_by_key(Diagnostic::start);
        if self.count(Severity::Error) == 0 { Ok(Warnings(self)) } else { Err(ConfigErrors(self)) }
    }

    /// Returns everything as errors, when there is at least one.
    pub fn into_errors(mut self) -> ConfigErrors {
        self.list.sort_by_key(Diagnostic::start);
        ConfigErrors(self)
    }

    fn count(&self, severity: Severity) -> usize {
        self.list.iter().filter(|diagnostic| diagnostic.severity == severity).count()
    }

    fn render(&self) -> String {
        let renderer = Renderer::plain();
        let rendered = self.list.iter().map(|diagnostic| diagnostic.render(&self.source, &renderer) + "\n\n");
        let mut text: String = rendered.collect();
        let (errors, warnings) = (self.count(Severity::Error), self.count(Severity::Warning));
        let counts: Vec<_> = [(errors, "error"), (warnings, "warning")]
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, name)| format!("{count} {name}{}", if *count > 1 { "s" } else { "" }))
            .collect();
        let level = if errors == 0 { Level::WARNING } else { Level::ERROR };
        let title = format!("{} in {}", counts.join(", "), self.source.name);
        text += &renderer.render(&[level.primary_title(title).elements(None::<Padding>)]);
        text
    }
}

impl ConfigErrors {
    /// Returns one line for each error, without the rendering: location, title, label, other locations, help.
    #[cfg(test)]
    pub(super) fn facts(&self) -> Vec<String> {
        self.0.list.iter().map(|diagnostic| diagnostic.facts(&self.0.source)).collect()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.render())
    }
}

impl std::error::Error for ConfigErrors {}

impl Warnings {
    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.list.is_empty()
    }

    /// Returns one line for each, for a log.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.0.list.iter().map(|diagnostic| diagnostic.line(&self.0.source))
    }
}

impl fmt::Display for Warnings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.render())
    }
}

impl Diagnostic {
    /// Adds a second location that takes part in the error.
    pub fn and(&mut self, location: Option<Location>, label: impl fmt::Display) -> &mut Diagnostic {
        self.others.push(Label { location, text: label.to_string() });
        self
    }

    /// Adds advice.
    pub fn help(&mut self, help: impl fmt::Display) -> &mut Diagnostic {
        self.help.push(help.to_string());
        self
    }

    fn start(&self) -> Option<usize> {
        self.label.location.as_ref().map(|location| location.0.start)
    }

    fn render(&self, source: &Source, renderer: &Renderer) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = level.primary_title(&*self.title).elements(self.snippet(source));
        for help in &self.help {
            group = group.element(Level::HELP.message(&**help));
        }
        renderer.render(&[group])
    }

    /// Formats location and title as one line.
    fn line(&self, source: &Source) -> String {
        format!("{}:{} {}", source.name, self.label.position(source), self.title)
    }

    #[cfg(test)]
    fn facts(&self, source: &Source) -> String {
        let title = format!("{} {}", self.label.position(source), self.title);
        let own = [title.trim_start().to_owned(), self.label.text.clone()];
        let shown = self.others.iter().filter(|label| label.location.is_some());
        let others = shown.map(|label| format!("{} {}", label.position(source), label.text));
        let help = self.help.iter().map(|help| format!("help: {help}"));
        let facts: Vec<_> =
            own.into_iter().chain(others).chain(help).filter(|fact| !fact.is_empty()).collect();
        facts.join("; ")
    }

    fn snippet<'a>(&'a self, source: &'a Source) -> Option<Snippet<'a, Annotation<'a>>> {
        let others = self.others.iter().map(|label| (AnnotationKind::Context, label));
        let annotations: Vec<_> = std::iter::once((AnnotationKind::Primary, &self.label))
            .chain(others)
            .filter_map(|(kind, label)| Some(kind.span(label.location.clone()?.0).label(&*label.text)))
            .collect();
        (!annotations.is_empty())
            .then(|| Snippet::source(&*source.text).path(&*source.name).annotations(annotations))
    }
}

impl Label {
    /// Formats line and column, `4:14:`; empty without a location.
    fn position(&self, source: &Source) -> String {
        let start = self.location.as_ref().map(|location| location.0.start);
        let Some(before) = start.and_then(|start| source.text.get(..start)) else { return String::new() };
        let (line, column) = (before.matches('\n').count() + 1, before.rsplit('\n').next().unwrap_or(before));
        format!("{line}:{}:", column.chars().count() + 1)
    }
}
