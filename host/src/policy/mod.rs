//! Policy: whether a client may publish or play a stream, decided once for each session, before its first byte.
//!
//! A [`Policy`] is made from the config of one vhost and holds its rules. [`Access`] is the host's: it applies a policy to
//! a [`Request`] and returns an [`Admission`] or a [`Refusal`]. `net` (RTMP) and `http` (HTTP and WebSocket) ask the same
//! function, so that a rule holds over every protocol:
//!
//! ```text
//! name or URL ─> router ─> vhost, policy, stream ─> Access::admit ─┬─> Admission: held by the publisher, player or viewer
//!                                                                  └─> Refusal: its answer to the peer, its reason in the log
//! ```
//!
//! Rules run in a fixed order, which `Policy::decide` shows: those that need nothing but the request first, those that
//! wait for others last. The first refusal ends the decision. A policy without rules that wait decides when the future is
//! polled for the first time; only such rules make it pending, and they must bound how long.
//!
//! [`Admission::poll_end`] tells the owner of a session that it must end before its stream does: when its credentials expire
//! and `enforce_expiry` is set, when it publishes too much, or when an operator ends it ([`Access::kick`], [`Access::ban`]).
//!
//! Invariants:
//! - one decision for each session. A viewer that stays connected over a reload keeps its admission; what comes after the
//!   reload is judged by the new policy, which the router replaces together with the vhost;
//! - [`Access::admit`] logs and counts every refusal ([`Refusals`]), with its reason and without secrets. What the peer is told, an [`Answer`], is
//!   the same for all reasons of a kind;
//! - to cancel a decision is to drop its future: a client that leaves is no longer judged. A hook that was asked already still
//!   answers, to a task of its own, which tells the end of a session that it accepted;
//! - what a rule must remember beyond one request (sessions, counts, cached answers) belongs to [`Access`], since a reload
//!   replaces the policies.
//!
//! An [`Admission`] is dropped at the end of its session, whatever ended it. What must happen then, once for each session,
//! belongs into its `Drop`; what the rules learned about the session, into its record, the [`Session`]. Log, commands and
//! API read this one record.
//!
//! Not covered: static files, redirects, pages and the API. They are public, or have access rules of their own.
//!
//! Used by `router`, which keeps each vhost's policy beside the vhost, by `http` and `net`; uses `conf` and the names of
//! `stream`.

mod access;
mod admission;
mod bans;
mod credentials;
mod grant;
mod group;
mod groups;
mod histogram;
mod hooks;
mod hops;
mod ids;
mod jwt;
mod key_set;
mod limits;
mod load;
mod mac;
mod node;
mod origin_check;
mod outbound;
mod outcome;
mod publish_key;
mod refer;
mod refusal;
mod refusals;
mod rendezvous;
mod request;
mod rules;
mod secure_link;
mod security;
mod session;
mod sessions;
mod signed_url;
mod stream_totals;
mod targets;
mod totals;

pub use access::{Access, ConnectionRequest};
pub use admission::Admission;
pub use bans::{Ban, BanError, BanTarget};
pub use groups::GroupTotals;
pub use histogram::Histogram;
pub use hooks::{Connected, HookAction, HookCounts, HookRefusal, HookResult, Hooks, ReloadFacts};
pub use hops::{HOPS, HOPS_HEADER, hops_through};
pub use ids::{ConnectionId, SessionId};
pub use limits::subscriber;
pub use load::{Lag, Load};
pub use mac::mac_of;
pub use node::{CREDENTIAL, node_credential};
pub use origin_check::{OriginCheck, OriginRefusal};
pub use outbound::{Outbound, OutboundError, client_tls};
pub use outcome::{End, Order, Outcome};
pub use refusal::{Answer, Refusal, SignatureError, TokenError};
pub use refusals::Refusals;
pub use rendezvous::Seed;
pub use request::{Action, Protocol, Request};
pub use rules::Policy;
pub use session::Session;
pub use sessions::SessionLog;
pub use signed_url::sign;
pub use stream_totals::{FormatTotals, StreamTotals};
pub use targets::{Base, Choice, NodeLoad, REDIRECTED, Regions, Target, Targets};
pub use totals::{Amount, Traffic};
