//! The pages of `/api/v1` with the shapes of SRS 4 and later, so that its console and its exporters can read them.
//!
//! Numbers that this host does not have are 0, and texts empty. What SRS takes from the client's URL is made up from the stream's
//! name, since queries may hold secrets. Addresses and pages of clients are for users of the API.

mod clients;
mod codecs;
mod envelope;
mod facts;
mod machine;
mod rates;
mod samples;
mod streams;
mod tally;

pub(super) use clients::{client, clients, kick};
pub(super) use envelope::{Code, Envelope, Identity};
pub(super) use facts::{api, authors, features, index, raw, requests, versions};
pub(super) use machine::{meminfos, rusages, self_proc_stats, summaries, system_proc_stats};
pub(super) use rates::Rates;
pub(super) use samples::Samples;
pub(super) use streams::{stream, streams, vhost, vhosts};
