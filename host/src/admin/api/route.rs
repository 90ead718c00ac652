//! A route: what one method of one path needs, takes and returns, and the function that answers.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use hyper::{HeaderMap, Method, StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;

use super::needs::Needs;
use super::peer::Peer;
use super::reply::{JSON, Refused, Reply};
use super::srs::{Code, Envelope};
use super::state::Api;
use crate::admin::guard::Admitted;

/// A request, once it is known who asks and which route answers.
pub(super) struct Call {
    /// The path, without a slash at its end.
    pub path: String,
    pub query: String,
    /// The part of the path in place of `{id}`; empty for a route without one.
    pub id: String,
    pub headers: HeaderMap,
    /// Empty unless the route reads it.
    pub body: Bytes,
    pub admitted: Admitted,
    pub peer: Peer,
    /// Whether only the head of the reply is asked for.
    pub is_head: bool,
}

/// A parameter of the query.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter {
    pub name: &'static str,
    pub text: &'static str,
    pub kind: Kind,
}

/// The values of a parameter.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A number from `min` to `max`.
    Number { min: u64, max: u64, required: bool },
    /// Any text, which must be there.
    Text,
    /// One of these, which must be there.
    Choice(&'static [&'static str]),
    /// Anything, or nothing: as in SRS, what is wrong counts as missing.
    Anything,
}

/// The shape of what a route returns with 200.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub content_type: &'static str,
    /// `None` for text.
    pub schema: Option<fn(&mut SchemaGenerator) -> Schema>,
}

type Answered = Pin<Box<dyn Future<Output = Result<Reply, Refused>> + Send>>;

/// One method of one path.
pub(super) struct Route {
    /// HEAD is answered as GET.
    pub method: Method,
    /// The path; its last part may be `{id}`.
    pub path: &'static str,
    pub needs: Needs,
    /// Its summary, in one sentence.
    pub text: &'static str,
    pub parameters: &'static [Parameter],
    /// The schema of the body that it reads.
    pub body: Option<fn(&mut SchemaGenerator) -> Schema>,
    pub shape: Shape,
    /// Statuses beside 200 and those that follow from what it needs and takes.
    pub statuses: &'static [StatusCode],
    /// Whether it has one of SRS's shapes: a slash may end its path, and JSONP applies.
    pub is_srs: bool,
    run: Box<dyn Fn(Arc<Api>, Call) -> Answered + Send + Sync>,
}

/// Returns a route that answers with what `page` returns, as JSON.
pub(super) fn json<T: Serialize + JsonSchema + 'static>(
    method: Method,
    path: &'static str,
    needs: Needs,
    text: &'static str,
    page: fn(&Api, &Call) -> Result<T, Refused>,
) -> Route {
    reply(method, path, needs, text, Shape::json::<T>(), move |api, call| {
        Ok(Reply::json(StatusCode::OK, &page(api, call)?))
    })
}

/// Returns a route with one of SRS's shapes: errors are numbers in the reply, whose status is 200.
pub(super) fn srs<T: Serialize + JsonSchema + 'static>(
    method: Method,
    path: &'static str,
    needs: Needs,
    text: &'static str,
    page: fn(&Api, &Call) -> Result<T, Code>,
) -> Route {
    let shape = Shape::json::<Envelope<T>>();
    let route = reply(method, path, needs, text, shape, move |api, call| {
        Ok(Reply::json(StatusCode::OK, &Envelope::of(&api.identity, page(api, call))))
    });
    Route { is_srs: true, ..route }
}

/// Returns a route that answers with what `page` returns, which has this shape.
pub(super) fn reply(
    method: Method,
    path: &'static str,
    needs: Needs,
    text: &'static str,
    shape: Shape,
    page: impl Fn(&Api, &Call) -> Result<Reply, Refused> + Clone + Send + Sync + 'static,
) -> Route {
    task(method, path, needs, text, shape, move |api, call| {
        let page = page.clone();
        async move {
            let page = tokio::task::spawn_blocking(move || page(&api, &call));
            page.await.unwrap_or(Err(Refused::Failed))
        }
    })
}

/// As [`reply`], for a page that waits.
pub(super) fn task<F: Future<Output = Result<Reply, Refused>> + Send + 'static>(
    method: Method,
    path: &'static str,
    needs: Needs,
    text: &'static str,
    shape: Shape,
    page: impl Fn(Arc<Api>, Call) -> F + Send + Sync + 'static,
) -> Route {
    let run = Box::new(move |api, call| -> Answered { Box::pin(page(api, call)) });
    let (parameters, statuses, is_srs) = (&[][..], &[][..], false);
    Route { method, path, needs, text, parameters, body: None, shape, statuses, is_srs, run }
}

impl Route {
    /// Sets the parameters of the query.
    pub fn takes(self, parameters: &'static [Parameter]) -> Route {
        Route { parameters, ..self }
    }

    /// Makes it read the body, which has this form.
    pub fn reads<T: JsonSchema>(self) -> Route {
        Route { body: Some(|generator| generator.subschema_for::<T>()), ..self }
    }

    /// Adds statuses.
    pub fn may_be(self, statuses: &'static [StatusCode]) -> Route {
        Route { statuses, ..self }
    }

    /// Returns what the path has in place of `{id}`, empty without it; `None` if the route is not of this path.
    pub fn id<'a>(&self, path: &'a str) -> Option<&'a str> {
        match self.path.strip_suffix("{id}") {
            Some(prefix) => path.strip_prefix(prefix).filter(|id| !id.is_empty() && !id.contains('/')),
            None => (path == self.path).then_some(""),
        }
    }

    /// Answers a request.
    ///
    /// # Errors
    /// Whoever asks may not, or the page refuses.
    pub async fn answer(&self, api: &Arc<Api>, call: Call) -> Result<Reply, Refused> {
        let may = match self.needs {
            Needs::Nothing | Needs::Login | Needs::Admission => true,
            Needs::User => call.admitted.caller.sees_addresses(),
            Needs::Operator => call.admitted.caller.operates(),
        };
        if may { (self.run)(api.clone(), call).await } else { Err(Refused::Forbidden) }
    }
}

impl Shape {
    pub fn json<T: JsonSchema>() -> Shape {
        Shape { content_type: JSON, schema: Some(|generator| generator.subschema_for::<T>()) }
    }

    pub fn text(content_type: &'static str) -> Shape {
        Shape { content_type, schema: None }
    }
}
