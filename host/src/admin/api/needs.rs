//! The permissions that routes need.

/// The permission that a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// None, not even credentials: for probes.
    Nothing,
    /// None, since the page judges credentials itself.
    Login,
    /// Credentials, if the API has users.
    Admission,
    /// A user, since the page names clients.
    User,
    /// A user who operates.
    Operator,
}
