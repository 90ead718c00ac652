//! MPEG transport streams (ISO/IEC 13818-1) as a strict player reads them.
//!
//! [`Stream`] is the model: packets, tables, PES packets, clock references. [`check`] compares it with a table of rules,
//! [`access_units`] makes it comparable to what was published, and [`second_opinion`] has mpeg2ts-reader read the same
//! bytes.

mod essence;
mod packet;
mod reader;
mod rules;
mod stream;

pub use essence::{access_units, published_units};
pub use packet::{Field, PACKET_LEN, Packet};
pub use reader::second_opinion;
pub use rules::{RULES, Rule, check};
pub use stream::{Clock, Elementary, Program, Stream, Table, Unit};
