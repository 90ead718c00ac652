use bytes::{Buf, Bytes};

use super::session::Role;
use super::*;
use crate::media::{Millis, Packet, Tag, TagKind};
use crate::rtmp::chunk::ChunkLimits;
use crate::rtmp::handshake::{Random, Scheme};
use crate::rtmp::output::Output;
use crate::rtmp::server::{Event, PlayEnd, Rejection, ServerSession, ServerSettings};
use crate::rtmp::tc_url::StreamName;

/// A client and a server that exchange up to `step` bytes at a time.
struct Pair {
    client: ClientSession,
    server: ServerSession,
    step: usize,
    client_events: Vec<ClientEvent>,
    server_events: Vec<Event>,
    rejection: Option<Rejection>,
}

impl Pair {
    fn new(role: Role, step: usize, scheme: Scheme) -> Pair {
        let limits = ChunkLimits::default();
        let name = StreamName::parse_url("rtmp://host/live/key?token=t").unwrap();
        let settings = ClientSettings {
            scheme,
            chunk_size: 4096,
            window_ack_size: 100_000,
            limits,
            enhanced: true,
            hops: String::new(),
        };
        let client = ClientSession::new(name, role, settings, 0, Random::from_seed(1));
        let settings = ServerSettings { chunk_size: 60_000, window_ack_size: 2_500_000, limits };
        let server = ServerSession::new(settings, 0, Random::from_seed(2));
        let (client_events, server_events) = (Vec::new(), Vec::new());
        Pair { client, server, step, client_events, server_events, rejection: None }
    }

    /// Runs until neither has output.
    fn run(&mut self) {
        while !self.client.buffers().output.is_empty() || !self.server.buffers().output.is_empty() {
            let take = |output: &mut Output, step: usize| output.copy_to_bytes(step.min(output.len()));
            let bytes = take(&mut self.client.buffers().output, self.step);
            self.server.buffers().input.extend_from_slice(&bytes);
            while let Some(event) = self.server.poll_event().unwrap() {
                self.answer(&event);
                self.server_events.push(event);
            }
            let bytes = take(&mut self.server.buffers().output, self.step);
            self.client.buffers().input.extend_from_slice(&bytes);
            while let Some(event) = self.client.poll_event().unwrap() {
                self.client_events.push(event);
            }
        }
    }

    fn answer(&mut self, event: &Event) {
        match (event, &self.rejection) {
            (Event::Connect { .. }, _) => self.server.accept_connect(),
            (Event::Publish { stream_id, .. }, None) => self.server.accept_publish(*stream_id),
            (Event::Publish { stream_id, .. }, Some(no)) => self.server.reject_publish(*stream_id, no),
            (Event::Play { stream_id, .. }, None) => self.server.accept_play(*stream_id),
            (Event::Play { stream_id, .. }, Some(no)) => self.server.reject_play(*stream_id, no),
            _ => {}
        }
    }
}

const WAYS: [(usize, Scheme); 4] = [
    (usize::MAX, Scheme::DigestThenKey),
    (usize::MAX, Scheme::KeyThenDigest),
    (1000, Scheme::Simple),
    (1, Scheme::DigestThenKey),
];

fn tags() -> Vec<Tag> {
    let mut tags = vec![
        Tag::new(TagKind::SCRIPT, Millis(0), Bytes::from_static(b"\x02\0\x0aonMetaData\x08\0\0\0\0\0\0\x09")),
        Tag::new(TagKind::AUDIO, Millis(0), Bytes::from_static(b"\xaf\0\x12\x10")),
        Tag::new(TagKind::AUDIO, Millis(0), Bytes::new()),
    ];
    for (index, len) in (0..).zip([1, 127, 128, 4096, 4097, 10_000]) {
        let body = [&[0x27, 1, 0, 0, 0][..], &vec![index as u8; len]].concat();
        // Over the end of 24 bits, and of 32.
        tags.push(Tag::new(TagKind::VIDEO, Millis(0xff_ffe0 + 20 * index), body.clone().into()));
        tags.push(Tag::new(TagKind::VIDEO, Millis(0xffff_ffe0 + 20 * index), body.into()));
    }
    tags
}

/// Kind, 32-bit time, body.
fn facts(tag: &Tag) -> (TagKind, u32, Bytes) {
    (tag.kind, tag.dts.0 as u32, tag.payload.clone())
}

#[test]
fn publishes_to_the_server_session() {
    for (step, scheme) in WAYS {
        let mut pair = Pair::new(Role::Publish, step, scheme);
        pair.run();
        assert!(matches!(pair.client_events[..], [ClientEvent::Published]), "{:?}", pair.client_events);
        let Event::Publish { name, .. } = &pair.server_events[1] else { panic!("no publish") };
        assert_eq!(*name, StreamName::parse_url("rtmp://host/live/key?token=t").unwrap());

        pair.server_events.clear();
        for tag in tags() {
            pair.client.send_tag(&tag);
        }
        pair.client.finish();
        pair.run();
        let ended = pair.server_events.pop();
        assert!(matches!(ended, Some(Event::Unpublish { stream_id: 1 })), "{ended:?}");
        let received: Vec<_> = pair
            .server_events
            .iter()
            .map(|event| match event {
                Event::Media { tag, .. } => facts(tag),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(received, tags().iter().map(facts).collect::<Vec<_>>());
        assert!(pair.client.is_over());
    }
}

#[test]
fn plays_from_the_server_session() {
    for (step, scheme) in WAYS {
        let mut pair = Pair::new(Role::Play, step, scheme);
        pair.run();
        assert!(matches!(pair.client_events[..], [ClientEvent::Playing]), "{:?}", pair.client_events);
        let Event::Play { name, .. } = &pair.server_events[1] else { panic!("no play") };
        assert_eq!(*name, StreamName::parse_url("rtmp://host/live/key?token=t").unwrap());

        pair.client_events.clear();
        for tag in tags() {
            pair.server.send_tag(1, &tag);
        }
        pair.server.end_play(1, PlayEnd::Unpublished);
        pair.run();
        let ended = pair.client_events.pop();
        assert!(matches!(ended, Some(ClientEvent::Ended)), "{ended:?}");
        let received: Vec<_> = pair
            .client_events
            .iter()
            .map(|event| match event {
                ClientEvent::Media { tag } => facts(tag),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(received, tags().iter().map(facts).collect::<Vec<_>>());
    }
}

#[test]
fn sends_metadata_as_data_frame() {
    let mut pair = Pair::new(Role::Publish, usize::MAX, Scheme::Simple);
    pair.run();
    let mut tag = tags().remove(0);
    tag.header.packet = Packet::METADATA;
    pair.client.send_tag(&tag);
    let sent = &mut pair.client.buffers().output;
    let sent = sent.copy_to_bytes(sent.len());
    assert!(sent.windows(13).any(|bytes| bytes == b"@setDataFrame"));
    pair.server.buffers().input.extend_from_slice(&sent);
    let received = pair.server.poll_event().unwrap();
    assert!(
        matches!(&received, Some(Event::Media { tag: got, .. }) if facts(got) == facts(&tag)),
        "{received:?}"
    );
}

#[test]
fn reports_the_end_of_its_stream_by_the_server() {
    let mut pair = Pair::new(Role::Publish, usize::MAX, Scheme::Simple);
    pair.run();
    pair.server.end_publish(1, &Rejection::Busy);
    assert!(pair.server.is_over());
    pair.run();
    let event = pair.client_events.pop();
    assert!(
        matches!(&event, Some(ClientEvent::Rejected { code, .. }) if code == "NetStream.Publish.BadName"),
        "{event:?}"
    );
}

#[test]
fn reports_rejections() {
    for (role, code) in
        [(Role::Publish, "NetStream.Publish.BadName"), (Role::Play, "NetStream.Play.StreamNotFound")]
    {
        let mut pair = Pair::new(role, usize::MAX, Scheme::Simple);
        pair.rejection = Some(Rejection::NotFound);
        pair.run();
        let [ClientEvent::Rejected { code: reported, description }] = &pair.client_events[..] else {
            panic!("{:?}", pair.client_events)
        };
        assert_eq!(reported, code);
        assert!(!description.is_empty());
        assert!(pair.client.is_over());
    }
}

#[test]
fn follows_redirects() {
    let url = "rtmp://other/live/key?token=t";
    let mut pair = Pair::new(Role::Play, usize::MAX, Scheme::Simple);
    pair.rejection = Some(Rejection::Redirect { url: url.to_owned() });
    pair.run();
    let [ClientEvent::Redirect { url: reported }] = &pair.client_events[..] else {
        panic!("{:?}", pair.client_events)
    };
    assert_eq!(reported, url);
}

#[test]
fn reports_a_reconnect_request_and_continues() {
    let mut pair = Pair::new(Role::Publish, usize::MAX, Scheme::Simple);
    pair.run();
    assert!(pair.server.request_reconnect(Some("rtmp://other/live")));
    pair.run();
    let event = pair.client_events.pop();
    assert!(
        matches!(&event, Some(ClientEvent::Reconnect { tc_url: Some(url) }) if url == "rtmp://other/live"),
        "{event:?}"
    );
    assert!(!pair.client.is_over());
}

#[test]
fn sends_slices_of_the_payload() {
    let mut pair = Pair::new(Role::Publish, usize::MAX, Scheme::Simple);
    pair.run();
    let payload = Bytes::from(vec![0x27; 10_000]);
    pair.client.send_tag(&Tag::new(TagKind::VIDEO, Millis(0), payload.clone()));
    let slices = pair.client.buffers().output.take_all();
    let sent: Vec<_> = slices.iter().filter(|slice| slice.len() > 100).map(|slice| slice.as_ptr()).collect();
    assert_eq!(sent, payload.chunks(4096).map(<[u8]>::as_ptr).collect::<Vec<_>>());
}

#[test]
fn keeps_secrets_out_of_debug() {
    let mut pair = Pair::new(Role::Publish, usize::MAX, Scheme::Simple);
    pair.run();
    let shown = format!("{:?} {:?}", pair.client_events, pair.server_events);
    assert!(!shown.contains("key") && !shown.contains("token"), "{shown}");
}
