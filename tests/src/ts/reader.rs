//! A second opinion: mpeg2ts-reader, an independent crate.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use mpeg2ts_reader::demultiplex::{
    self, Demultiplex, DemuxContext, FilterChangeset, FilterRequest, NullPacketFilter,
};
use mpeg2ts_reader::{pes, psi};

/// The content of one PID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PidContent {
    /// The stream type.
    pub stream_type: u8,
    /// Number of PES packets.
    pub units: usize,
    /// Number of bytes of their payloads.
    pub bytes: usize,
}

type Log = Rc<RefCell<(BTreeMap<u16, PidContent>, Vec<String>)>>;

/// Demultiplexes `bytes` with mpeg2ts-reader, and returns the content of each PID.
///
/// # Errors
/// The first error of mpeg2ts-reader, in continuity counters or PES headers.
pub fn second_opinion(bytes: &[u8]) -> Result<BTreeMap<u16, PidContent>, String> {
    let log = Log::default();
    let mut context = Context { changes: FilterChangeset::default(), log: Rc::clone(&log) };
    let mut demultiplex = Demultiplex::new(&mut context);
    demultiplex.push(&mut context, bytes);
    drop((demultiplex, context));
    let (seen, errors) = log.take();
    match errors.first() {
        Some(first) => Err(format!("{first} (of {} errors)", errors.len())),
        None => Ok(seen),
    }
}

/// Public because the macro below makes types public that contain it.
pub struct Context {
    changes: FilterChangeset<Filter>,
    log: Log,
}

mpeg2ts_reader::packet_filter_switch! {
    Filter<Context> {
        Pes: pes::PesPacketFilter<Context, Consumer>,
        Pat: demultiplex::PatPacketFilter<Context>,
        Pmt: demultiplex::PmtPacketFilter<Context>,
        Null: NullPacketFilter<Context>,
    }
}

impl DemuxContext for Context {
    type F = Filter;

    fn filter_changeset(&mut self) -> &mut FilterChangeset<Filter> {
        &mut self.changes
    }

    fn construct(&mut self, request: FilterRequest<'_, '_>) -> Filter {
        match request {
            FilterRequest::ByPid(psi::pat::PAT_PID) => Filter::Pat(demultiplex::PatPacketFilter::default()),
            FilterRequest::Pmt { pid, program_number } => {
                Filter::Pmt(demultiplex::PmtPacketFilter::new(pid, program_number))
            }
            FilterRequest::ByStream { stream_info, stream_type, .. } => {
                let pid = u16::from(stream_info.elementary_pid());
                self.log.borrow_mut().0.entry(pid).or_default().stream_type = stream_type.into();
                Filter::Pes(pes::PesPacketFilter::new(Consumer { pid, log: Rc::clone(&self.log) }))
            }
            FilterRequest::ByPid(_) | FilterRequest::Nit { .. } => Filter::Null(NullPacketFilter::default()),
        }
    }
}

/// As [`Context`].
pub struct Consumer {
    pid: u16,
    log: Log,
}

impl Consumer {
    fn payload(&self, bytes: usize) {
        self.log.borrow_mut().0.entry(self.pid).or_default().bytes += bytes;
    }

    fn report(&self, what: String) {
        self.log.borrow_mut().1.push(format!("PID {:#x}: {what}", self.pid));
    }
}

impl pes::ElementaryStreamConsumer<Context> for Consumer {
    fn start_stream(&mut self, _: &mut Context) {}

    fn begin_packet(&mut self, _: &mut Context, header: pes::PesHeader<'_>) {
        self.log.borrow_mut().0.entry(self.pid).or_default().units += 1;
        match header.contents() {
            pes::PesContents::Parsed(Some(parsed)) => {
                if let Err(error) = parsed.pts_dts() {
                    self.report(format!("{error:?}"));
                }
                self.payload(parsed.payload().len());
            }
            _ => self.report("a PES header that cannot be read".into()),
        }
    }

    fn continue_packet(&mut self, _: &mut Context, data: &[u8]) {
        self.payload(data.len());
    }

    fn end_packet(&mut self, _: &mut Context) {}

    fn continuity_error(&mut self, _: &mut Context) {
        self.report("continuity".into());
    }
}
