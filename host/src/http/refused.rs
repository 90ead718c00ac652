//! The lines of the log about refused requests.

use std::fmt::Write;

use tracing::info;

use super::{Client, ConnectionContext, Refusal};
use crate::module::text::push_visible;
use crate::policy::{Admission, Outcome, Refusals};

/// Length to which a path is cut in the log, in bytes.
const MAX_PATH: usize = 256;

/// A refusal on its way to the response.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    /// Whether the log has its reason already.
    pub(super) is_reported: bool,
}

impl<R: Into<Refusal>> From<R> for Refused {
    fn from(refusal: R) -> Refused {
        Refused { refusal: refusal.into(), is_reported: false }
    }
}

impl Refused {
    /// A refusal that the log has already.
    pub(super) fn reported(refusal: impl Into<Refusal>) -> Refused {
        Refused { refusal: refusal.into(), is_reported: true }
    }

    /// A refusal of a viewer that was admitted: the end of its session.
    pub(super) fn of_session(
        refusal: Refusal,
        admission: &Admission,
        refusals: &Refusals,
        client: &Client,
        connection: &ConnectionContext,
    ) -> Refused {
        let (status, reason) = (refusal.status().as_u16(), refusal.reason());
        if let Some(before) = refusals.count(refusal.name()) {
            let (session, stream, connection) = (admission.id(), admission.key(), connection.id);
            info!(client = %client.address, %connection, %session, status, %stream, reason, before, "refused");
        }
        admission.session().ends_because(Outcome::NotServed { status, reason });
        Refused::reported(refusal)
    }
}

/// Reports a refusal before any session. `path` has no secret names.
pub(super) fn report(
    refusal: &Refusal,
    path: &str,
    refusals: &Refusals,
    client: &Client,
    connection: &ConnectionContext,
) {
    if let Some(before) = refusals.count(refusal.name()) {
        let (status, reason, path) = (refusal.status().as_u16(), refusal.reason(), shown(path));
        let connection = connection.id;
        info!(client = %client.address, %connection, status, path, reason, before, "refused");
    }
}

/// Cuts a path, and escapes what would affect the line around it.
fn shown(path: &str) -> String {
    let cut = &path[..path.floor_char_boundary(MAX_PATH)];
    let mut shown = String::with_capacity(cut.len());
    for character in cut.chars() {
        // Writing to a string cannot fail.
        let _ = push_visible(&mut shown, character);
    }
    if cut.len() < path.len() {
        // Writing to a string cannot fail.
        let _ = write!(shown, "... ({} bytes)", path.len());
    }
    shown
}
