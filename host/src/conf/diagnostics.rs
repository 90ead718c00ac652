//! Mistakes in the configuration, shown the way rustc shows them: file, line, column, the line itself.
//!
//! A warning is for what is surely not meant, but does no harm: it is shown, and the configuration is used.
//!
//! Invariants: all mistakes are collected before any is shown, and they are shown in the order of the file.
//! The culprit is always the operator, so a report never says what the host was doing, only what to change.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// Where in the configuration file something stands. It never makes two configurations differ: every place
/// equals every other.
#[derive(Clone, Debug, Default)]
pub struct Place(Option<Range<usize>>);

impl Place {
    /// Nowhere: what a default has.
    pub const NONE: Place = Place(None);

    /// The bytes `span` of the file.
    pub fn new(span: Range<usize>) -> Place {
        Place(Some(span))
    }

    /// The bytes of the file, unless this is a default.
    pub fn span(&self) -> Option<Range<usize>> {
        self.0.clone()
    }
}

impl PartialEq for Place {
    fn eq(&self, _: &Place) -> bool {
        true
    }
}

impl Eq for Place {}

/// A configuration file, as read. As a place, it never makes two configurations differ.
#[derive(Debug, Default)]
pub struct Source {
    name: String,
    text: String,
}

impl PartialEq for Source {
    fn eq(&self, _: &Source) -> bool {
        true
    }
}

/// One mistake, or one warning.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    warning: bool,
    title: String,
    label: (Place, String),
    others: Vec<(Place, String)>,
    help: Vec<String>,
}

impl Diagnostic {
    /// A second place that has part in the mistake.
    pub fn and(&mut self, place: &Place, label: impl fmt::Display) -> &mut Diagnostic {
        self.others.push((place.clone(), label.to_string()));
        self
    }

    /// What to do about it.
    pub fn help(&mut self, help: impl fmt::Display) -> &mut Diagnostic {
        self.help.push(help.to_string());
        self
    }

    fn render(&self, source: &Source, renderer: &Renderer) -> String {
        let level = if self.warning { Level::WARNING } else { Level::ERROR };
        let mut group = level.primary_title(&*self.title).elements(self.snippet(source));
        for help in &self.help {
            group = group.element(Level::HELP.message(&**help));
        }
        renderer.render(&[group])
    }

    /// Place and title in one line.
    fn line(&self, source: &Source) -> String {
        let Diagnostic { title, label: (place, _), .. } = self;
        let Some(before) = place.span().and_then(|span| source.text.get(..span.start)) else {
            return format!("{}: {title}", source.name);
        };
        let (line, column) = (before.matches('\n').count() + 1, before.rsplit('\n').next().unwrap_or(before));
        format!("{}:{line}:{}: {title}", source.name, column.chars().count() + 1)
    }

    fn snippet<'a>(&'a self, source: &'a Source) -> Option<Snippet<'a, annotate_snippets::Annotation<'a>>> {
        let first = (AnnotationKind::Primary, &self.label);
        let others = self.others.iter().map(|other| (AnnotationKind::Context, other));
        let annotations: Vec<_> = std::iter::once(first)
            .chain(others)
            .filter_map(|(kind, (place, label))| Some(kind.span(place.span()?).label(&**label)))
            .collect();
        (!annotations.is_empty())
            .then(|| Snippet::source(&*source.text).path(&*source.name).annotations(annotations))
    }
}

/// The mistakes found so far in one configuration file, and the warnings.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    source: Arc<Source>,
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// None yet.
    pub(super) fn new(name: impl Into<String>, text: impl Into<String>) -> Diagnostics {
        Diagnostics::of(&Arc::new(Source { name: name.into(), text: text.into() }))
    }

    /// None yet, in a file that was read before.
    pub(super) fn of(source: &Arc<Source>) -> Diagnostics {
        Diagnostics { source: source.clone(), list: Vec::new() }
    }

    /// The file.
    pub(super) fn source(&self) -> Arc<Source> {
        self.source.clone()
    }

    /// Adds a mistake: `title` says what is wrong, `label` stands under `place`. The result takes further
    /// places and help.
    pub fn error(
        &mut self,
        title: impl fmt::Display,
        place: &Place,
        label: impl fmt::Display,
    ) -> &mut Diagnostic {
        self.add(false, title, place, label)
    }

    /// As [`error`](Self::error), for what does no harm.
    pub fn warning(
        &mut self,
        title: impl fmt::Display,
        place: &Place,
        label: impl fmt::Display,
    ) -> &mut Diagnostic {
        self.add(true, title, place, label)
    }

    fn add(
        &mut self,
        warning: bool,
        title: impl fmt::Display,
        place: &Place,
        label: impl fmt::Display,
    ) -> &mut Diagnostic {
        self.list.push(Diagnostic {
            warning,
            title: title.to_string(),
            label: (place.clone(), label.to_string()),
            others: Vec::new(),
            help: Vec::new(),
        });
        let last = self.list.len() - 1;
        &mut self.list[last]
    }

    /// Whether some mistake was found at `place`.
    pub(super) fn blames(&self, place: &Place) -> bool {
        self.list.iter().any(|diagnostic| diagnostic.label.0.span() == place.span())
    }

    /// The warnings, or everything that was found.
    ///
    /// # Errors
    /// When there is at least one mistake.
    pub fn finish(self) -> Result<Report, Report> {
        let report = self.report();
        if report.mistakes() == 0 { Ok(report) } else { Err(report) }
    }

    /// What was found, in the order of the file.
    pub fn report(mut self) -> Report {
        self.list.sort_by_key(|diagnostic| diagnostic.label.0.span().map(|span| span.start));
        Report { diagnostics: self }
    }
}

/// What is to be said about a configuration. With a mistake in it, it is why the configuration is refused. Culprit:
/// operator. It never makes two configurations differ.
#[derive(Clone, Debug, Default)]
pub struct Report {
    diagnostics: Diagnostics,
}

impl PartialEq for Report {
    fn eq(&self, _: &Report) -> bool {
        true
    }
}

impl Report {
    /// How many mistakes there are.
    pub fn mistakes(&self) -> usize {
        self.diagnostics.list.iter().filter(|diagnostic| !diagnostic.warning).count()
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.diagnostics.list.is_empty()
    }

    /// One line each: for a log.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let Diagnostics { source, list } = &self.diagnostics;
        list.iter().map(|diagnostic| diagnostic.line(source))
    }

    /// The report for a terminal, in colours.
    pub fn styled(&self) -> String {
        self.render(&Renderer::styled())
    }

    fn render(&self, renderer: &Renderer) -> String {
        let Diagnostics { source, list } = &self.diagnostics;
        let mut text: String =
            list.iter().map(|diagnostic| diagnostic.render(source, renderer) + "\n\n").collect();
        let mistakes = self.mistakes();
        let counts = [(mistakes, "mistake"), (list.len() - mistakes, "warning")];
        let counts: Vec<_> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}{}", if *count > 1 { "s" } else { "" }))
            .collect();
        let level = if mistakes == 0 { Level::WARNING } else { Level::ERROR };
        let title = format!("{} in {}", counts.join(", "), source.name);
        text += &renderer.render(&[level.primary_title(title).elements(NOTHING)]);
        text
    }
}

/// A title alone: the type of its absent elements has to be named.
const NOTHING: Option<annotate_snippets::Padding> = None;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(&Renderer::plain()))
    }
}

impl std::error::Error for Report {}
