//! Playing: from the hub's streams to the client.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use remuxd_bitstream::flv::TagHeader;
use tokio::time::{Sleep, sleep};
use tracing::info;

use super::deadline::MediaDeadline;
use super::requests::Admitted;
use crate::budget::Charge;
use crate::conf::Publish;
use crate::media::{Packet, Tag, TagKind};
use crate::net::peer::Peer;
use crate::net::server::Server;
use crate::policy::{Admission, Outcome, Session};
use crate::rtmp::PlayerForm;
use crate::rtmp::server::{PlayEnd, Rejection, ServerSession};
use crate::stream::{Haste, Reader, Stream, StreamKey, StreamWait, SupplyError, Waiting};

/// The players of one connection, by message stream.
pub(super) struct Players {
    server: Arc<Server>,
    by_id: HashMap<u32, Playing>,
}

struct Playing {
    source: Source,
    audio: bool,
    video: bool,
    tracks: StartedTracks,
    /// The demand of a player that is another node, once its stream is there.
    haste: Option<Haste>,
    _room: Charge,
    admission: Admission,
}

/// The tracks other than 0 that had a keyframe since the player joined: its history begins at a keyframe of track 0.
#[derive(Default)]
struct StartedTracks {
    tracks: Vec<u8>,
    /// Gaps in what the player read so far.
    skips: u64,
}

enum Source {
    /// Waiting for the stream to be published, until the deadline.
    Waiting { stream: StreamWait, deadline: Pin<Box<Sleep>> },
    /// Reading the stream.
    Reading { key: StreamKey, tags: Reader<Tag> },
    /// Paused by the player.
    Paused { key: StreamKey },
    /// Another sends its tags.
    Lent { key: StreamKey },
}

/// A player to whom another sends.
pub(super) struct LentPlayer {
    pub(super) stream_id: u32,
    pub(super) form: PlayerForm,
    pub(super) position: Reader<Tag>,
    pub(super) session: Arc<Session>,
}

/// An event of a player's source.
pub(super) enum SourceEvent {
    Stream(Arc<Stream>),
    Tags(Arc<Vec<Tag>>),
    End,
    /// The stream has not come.
    NotServed(SupplyError),
    /// The admission is over.
    Denied(Rejection),
}

impl Players {
    pub fn new(server: Arc<Server>) -> Players {
        Players { server, by_id: HashMap::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Starts to wait for a stream, or rejects the request if the stream cannot be had.
    pub fn start(
        &mut self,
        stream_id: u32,
        Admitted { vhost, admission, room, .. }: Admitted,
        peer: Peer,
        session: &mut ServerSession,
        media: &mut MediaDeadline,
    ) {
        let key = admission.key().clone();
        info!(peer = %peer.address, connection = %peer.id, session = %admission.id(), stream = %key, "playing");
        if !self.server.hub.find(&key).is_some_and(|stream| stream.is_live()) {
            admission.want();
        }
        let asking = Waiting { address: admission.session().address(), hops: admission.session().hops() };
        let stream = match self.server.hub.want(key, asking) {
            Ok(stream) => stream,
            Err(error) => return self.reject(stream_id, error, &admission, peer, session),
        };
        media.allow(vhost.play.wait);
        let source = Source::Waiting { stream, deadline: Box::pin(sleep(vhost.play.wait)) };
        self.by_id.insert(
            stream_id,
            Playing {
                source,
                audio: true,
                video: true,
                tracks: StartedTracks::default(),
                haste: None,
                _room: room,
                admission,
            },
        );
    }

    /// Pauses a player, or resumes it at the newest keyframe.
    pub fn pause(&mut self, stream_id: u32, paused: bool, session: &mut ServerSession) {
        let Some(playing) = self.by_id.get_mut(&stream_id) else { return };
        match &playing.source {
            Source::Reading { key, .. } if paused => playing.source = Source::Paused { key: key.clone() },
            Source::Paused { key } if !paused => match self.server.hub.find(key) {
                Some(stream) => {
                    playing.tracks = StartedTracks::default();
                    playing.source = Source::Reading { key: key.clone(), tags: stream.play() };
                }
                None => {
                    self.by_id.remove(&stream_id);
                    session.end_play(stream_id, PlayEnd::Unpublished);
                }
            },
            _ => {}
        }
    }

    pub fn receive_audio(&mut self, stream_id: u32, wanted: bool) {
        if let Some(playing) = self.by_id.get_mut(&stream_id) {
            playing.audio = wanted;
        }
    }

    pub fn receive_video(&mut self, stream_id: u32, wanted: bool) {
        if let Some(playing) = self.by_id.get_mut(&stream_id) {
            playing.video = wanted;
        }
    }

    pub fn stop(&mut self, stream_id: u32) {
        self.by_id.remove(&stream_id);
    }

    /// Notes why the sessions of all players end.
    pub fn end_because(&self, outcome: &Outcome) {
        for playing in self.by_id.values() {
            playing.admission.session().ends_because(outcome.clone());
        }
    }

    /// Sends the end of playing to all players.
    pub fn end_all(&self, end: PlayEnd, session: &mut ServerSession) {
        for stream_id in self.by_id.keys() {
            session.end_play(*stream_id, end);
        }
    }

    /// Lends the only player, if it gets all of its stream, to another who sends to it. Until [`Players::resume`] it gets no tags here.
    pub fn lend(&mut self, session: &mut ServerSession) -> Option<LentPlayer> {
        if self.by_id.len() != 1 {
            return None;
        }
        let (&stream_id, playing) = self.by_id.iter_mut().next()?;
        let Source::Reading { key, .. } = &playing.source else { return None };
        let lent = Source::Lent { key: key.clone() };
        let form = if playing.audio && playing.video { session.pause_for(stream_id) } else { None }?;
        let Source::Reading { tags: position, .. } = std::mem::replace(&mut playing.source, lent) else {
            return None;
        };
        Some(LentPlayer { stream_id, form, position, session: playing.admission.session().clone() })
    }

    /// Continues to send to a player that was lent.
    pub fn resume(&mut self, stream_id: u32, tags: Reader<Tag>) {
        if let Some(playing) = self.by_id.get_mut(&stream_id)
            && let Source::Lent { key } = &playing.source
        {
            playing.tracks.skips = tags.skipped();
            playing.source = Source::Reading { key: key.clone(), tags };
        }
    }

    /// Polls for an event of a player's source.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<(u32, SourceEvent)> {
        for (stream_id, playing) in &mut self.by_id {
            if let Poll::Ready(end) = playing.admission.poll_end(cx) {
                return Poll::Ready((*stream_id, SourceEvent::Denied(end.into())));
            }
            if let Poll::Ready(event) = playing.source.poll(cx) {
                return Poll::Ready((*stream_id, event));
            }
        }
        Poll::Pending
    }

    /// Sends the outcome of an event to the player.
    pub fn handle(
        &mut self,
        stream_id: u32,
        event: SourceEvent,
        peer: Peer,
        session: &mut ServerSession,
        media: &mut MediaDeadline,
    ) {
        let Some(playing) = self.by_id.get_mut(&stream_id) else { return };
        match event {
            SourceEvent::Stream(stream) => {
                let (Peer { address: peer, id: connection }, id) = (peer, playing.admission.id());
                info!(%peer, %connection, session = %id, stream = %stream.key(), "play started");
                // The longest time without a tag on a stream that does not end.
                let Publish { normal_timeout, republish_wait, firstpkt_timeout, .. } =
                    stream.vhost().publish.clone();
                media.allow(normal_timeout + republish_wait + firstpkt_timeout);
                playing.source = Source::Reading { key: stream.key().clone(), tags: stream.play() };
                playing.haste = (!playing.admission.session().hops().is_empty()).then(|| stream.hasten());
                session.accept_play(stream_id);
            }
            SourceEvent::Tags(tags) => {
                if let Source::Reading { tags, .. } = &playing.source {
                    playing.tracks.note_skips(tags.skipped());
                    playing.admission.session().set_progress(tags.skipped(), tags.lag().0);
                }
                let mut sent = 0;
                for tag in tags.iter().filter(|tag| playing.wants(tag)) {
                    session.send_tag(stream_id, tag);
                    sent += tag.payload.len();
                    media.renew();
                }
                playing.admission.session().add_bytes(sent);
            }
            SourceEvent::End => {
                playing.admission.session().ends_because(Outcome::StreamEnded);
                self.by_id.remove(&stream_id);
                session.end_play(stream_id, PlayEnd::Unpublished);
            }
            SourceEvent::Denied(rejection) => {
                self.by_id.remove(&stream_id);
                session.reject_play(stream_id, &rejection);
                session.end_play(stream_id, PlayEnd::Stopped);
            }
            SourceEvent::NotServed(error) => {
                if let Some(playing) = self.by_id.remove(&stream_id) {
                    self.reject(stream_id, error, &playing.admission, peer, session);
                }
            }
        }
    }

    /// Rejects a player whose stream has not come.
    fn reject(
        &self,
        stream_id: u32,
        error: SupplyError,
        admission: &Admission,
        peer: Peer,
        rtmp: &mut ServerSession,
    ) {
        if let Some(before) = self.server.access.refusals().count(error.name()) {
            let (session, stream) = (admission.id(), admission.key());
            let (connection, peer) = (peer.id, peer.address);
            info!(%peer, %connection, %session, %stream, before, "refused: {error}");
        }
        let (status, rejection) = match error {
            SupplyError::NotFound => (404, Rejection::NotFound),
            SupplyError::TooMany => (503, Rejection::Full),
            _ => (503, Rejection::Unreachable),
        };
        admission.session().ends_because(Outcome::NotServed { status, reason: error.to_string() });
        rtmp.reject_play(stream_id, &rejection);
    }
}

impl Playing {
    fn wants(&mut self, tag: &Tag) -> bool {
        match tag.kind {
            TagKind::AUDIO => self.audio,
            TagKind::VIDEO => self.video && self.tracks.decodes(tag),
            _ => true,
        }
    }
}

impl StartedTracks {
    /// Starts all tracks afresh after a gap.
    fn note_skips(&mut self, skips: u64) {
        if std::mem::replace(&mut self.skips, skips) != skips {
            self.tracks.clear();
        }
    }

    /// Whether the player can decode the other tracks of a video tag.
    fn decodes(&mut self, tag: &Tag) -> bool {
        if tag.header.packet != Packet::OTHER || !tag.header.wrapped {
            return true;
        }
        TagHeader::tracks(tag.kind, &tag.payload).all(|(track, header)| {
            if header.keyframe && !self.tracks.contains(&track) {
                self.tracks.push(track);
            }
            header.packet != Packet::CODED_FRAME || self.tracks.contains(&track)
        })
    }
}

impl Source {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<SourceEvent> {
        match self {
            Source::Paused { .. } | Source::Lent { .. } => Poll::Pending,
            Source::Waiting { stream, deadline } => match Pin::new(stream).poll(cx) {
                Poll::Ready(Ok(stream)) => Poll::Ready(SourceEvent::Stream(stream)),
                Poll::Ready(Err(error)) => Poll::Ready(SourceEvent::NotServed(error)),
                Poll::Pending => {
                    deadline.as_mut().poll(cx).map(|()| SourceEvent::NotServed(SupplyError::NotFound))
                }
            },
            Source::Reading { tags, .. } => {
                tags.poll_read(cx).map(|tags| tags.map_or(SourceEvent::End, SourceEvent::Tags))
            }
        }
    }
}
