//! Live requests: from a route to a viewer, with the outcome known before the status line.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use tokio::time::{Instant, timeout_at};
use tracing::info;

use crate::media::{Codec, Packet, Tag};
use crate::module::{Module, Pool, Recipe, Registry, Transport};
use crate::router::{Resolved, Route, query_pairs};
use crate::stream::{Hub, JoinAt, Pace, Reader, Ring, Span, Stream, Viewer};

use super::websocket::Upgrade;
use super::{Body, Client, ConnectionContext, Refusal, pacer};

/// Tells nginx not to buffer the response.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// How long a remuxer may take to its first block, when there is something to remux.
const REMUX_TIME: Duration = Duration::from_secs(5);
/// How long after the first track of a stream its second may come. It is not there when the stream is older, or when
/// none came while a viewer has waited this long.
const TRACK_WAIT: Duration = Duration::from_secs(1);

/// The live mounts of all streams.
pub(super) struct LiveMounts {
    hub: Arc<Hub>,
    registry: Arc<Registry>,
    pool: Arc<Pool>,
}

/// How a request wants its stream.
pub(super) enum Delivery {
    /// HEAD: the status line and headers of a GET.
    Head,
    /// As the body of the response.
    Body,
    /// As messages, once the connection is upgraded.
    WebSocket(Upgrade),
}

impl Delivery {
    fn transport(&self) -> Transport {
        match self {
            Delivery::Head | Delivery::Body => Transport::HTTP,
            Delivery::WebSocket(_) => Transport::WEBSOCKET,
        }
    }
}

impl LiveMounts {
    /// Mounts of the streams of `hub`, in the formats of `registry`, whose remuxers run in `pool`.
    pub(super) fn new(hub: Arc<Hub>, registry: Arc<Registry>, pool: Arc<Pool>) -> LiveMounts {
        LiveMounts { hub, registry, pool }
    }

    /// Whether the stream of one of `routes` is live now.
    pub(super) fn is_live(&self, routes: &[Route]) -> bool {
        routes.iter().any(|route| self.hub.find(&route.key).is_some())
    }

    /// Answers a GET or HEAD with a live mount.
    ///
    /// # Errors
    /// [`Refusal`] when no mount matches, no publisher comes in time, or the format cannot carry the stream.
    pub(super) async fn respond(
        &self,
        resolved: Resolved,
        delivery: Delivery,
        client: &Client,
        connection: &ConnectionContext,
    ) -> Result<Response<Body>, Refusal> {
        let mut target = self.target(resolved, delivery.transport())?;
        let play = &target.route.vhost.play;
        let deadline = Instant::now() + play.wait.min(Duration::from_secs(86_400));

        if self.hub.find(&target.route.key).is_none() {
            info!(client = %client.address, stream = %target.route.key, "waiting for a publisher");
        }
        let wait = self.hub.wait_for(target.route.key.clone());
        let stream = tokio::select! {
            stream = timeout_at(deadline, wait) => stream.map_err(|_| Refusal::NotLive)?,
            () = connection.stopping.cancelled() => return Err(Refusal::Unavailable),
        };
        let mut media = Media::of(&stream);
        // Watched first and judged then, so that a viewer who was here before the first frame gets it.
        let mut viewer = self.watch(&mut target, &stream)?;
        media.wait_for(target.module(), deadline).await?;
        drop(media);
        // The stream is there: what is left to wait for is the remuxer, however short the wait for a stream may be.
        let deadline = deadline.max(Instant::now() + REMUX_TIME);
        let first = first_span(&mut viewer, &stream, deadline).await?;
        if !matches!(delivery, Delivery::Head) {
            let module = target.module().name();
            info!(client = %client.address, stream = %target.route.key, module, "viewing");
        }
        let mut response = match delivery {
            Delivery::Head => Response::new(Body::empty()),
            Delivery::Body => Response::new(Body::live(viewer, first)),
            Delivery::WebSocket(upgrade) => return Ok(upgrade.accept(connection, viewer, first)),
        };
        let content_type = HeaderValue::from_str(target.module().content_type());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, content_type.map_err(|_| Refusal::Unavailable)?);
        headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
        Ok(response)
    }

    /// Returns the best mount whose extension a module answers over `transport`.
    fn target(&self, resolved: Resolved, transport: Transport) -> Result<Target, Refusal> {
        let mut refusal = Refusal::NotMounted;
        for route in resolved.routes {
            let extension = &route.mount.pattern.extension;
            if let Some(module) = self.registry.find(extension, transport) {
                let recipe = Recipe::new(module, &route.mount.options, query_pairs(&resolved.query))?;
                return Ok(Target { route, transport, recipe });
            }
            if self.registry.find(extension, Transport::WEBSOCKET).is_some() {
                refusal = Refusal::WebSocketOnly;
            }
        }
        Err(refusal)
    }

    /// Attaches a viewer to the target's mount. The first viewer of a mount starts its pacer.
    ///
    /// The module may have changed while the request waited, so it is looked up again.
    fn watch(&self, target: &mut Target, stream: &Arc<Stream>) -> Result<Viewer, Refusal> {
        let Target { route, transport, recipe } = target;
        let mount = &route.mount;
        let look_up = || {
            let module = self.registry.find(&mount.pattern.extension, *transport);
            let module = module.ok_or(Refusal::NotMounted)?;
            if !Arc::ptr_eq(&module, recipe.module()) {
                *recipe = recipe.of(module)?;
            }
            Ok::<_, Refusal>(recipe.clone())
        };
        let (viewer, is_first) = stream.watch(look_up, mount.fast_cache, &self.pool)?;
        if is_first {
            tokio::spawn(pacer::pace_mount(stream.clone(), viewer.mount().clone()));
        }
        Ok(viewer)
    }
}

/// The mount that answers a request, and how it is made.
struct Target {
    route: Route,
    transport: Transport,
    recipe: Recipe,
}

impl Target {
    fn module(&self) -> &Arc<Module> {
        self.recipe.module()
    }
}

/// What a stream has for a format, judged by its tags in order and not by its newest codecs alone: whoever waits here may
/// be late to look, and the stream may have turned to other codecs meanwhile.
struct Media<'a> {
    stream: &'a Stream,
    /// Of all tags, and of the audio alone, which a format of audio is made of.
    readers: [Reader<Tag>; 2],
}

/// What came since the last look.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Came {
    /// A frame of a codec that the format carries.
    Carried,
    /// Others.
    Others,
    /// The end of the stream.
    End,
}

impl Media<'_> {
    /// Of `stream` from its newest join point on.
    fn of(stream: &Stream) -> Media<'_> {
        let reader = |ring: &Arc<Ring<Tag>>| ring.reader(JoinAt::Newest, Pace::Each);
        Media { stream, readers: [stream.tags(), stream.audio()].map(reader) }
    }

    fn poll_look(&mut self, module: &Module, cx: &mut Context<'_>) -> Poll<Came> {
        // A configuration is no proof: one that is in force may be of the codec before.
        let carries = |tag: &Tag| {
            let header = tag.header;
            header.packet == Packet::CODED_FRAME && module.carries(header.codec, header.codec)
        };
        let mut came = Poll::Pending;
        for (reader, is_read) in
            self.readers.iter_mut().zip([!module.is_audio_only(), module.is_audio_only()])
        {
            while let Poll::Ready(tags) = reader.poll_read(cx) {
                match tags {
                    Some(tags) if is_read && tags.iter().any(carries) => return Poll::Ready(Came::Carried),
                    Some(_) => came = Poll::Ready(Came::Others),
                    None => {
                        came = Poll::Ready(Came::End);
                        break;
                    }
                }
            }
        }
        came
    }

    /// Waits until it is known whether `module` can carry a track of the stream: from the first join point on, unless the
    /// track may still come.
    async fn wait_for(&mut self, module: &Module, mut deadline: Instant) -> Result<(), Refusal> {
        loop {
            // Before the look, which then sees all that led to them.
            let facts = self.stream.facts();
            let (video, audio) = (facts.video, facts.audio);
            let has_join = [self.stream.tags(), self.stream.audio()].iter().any(|ring| ring.has_join());
            let known = has_join && (video, audio) != (Codec::NONE, Codec::NONE);
            if known && module.carries(video, audio) {
                return Ok(());
            }
            let refusal = if known { Refusal::Codec { video, audio } } else { Refusal::NotLive };
            match poll_fn(|cx| Poll::Ready(self.poll_look(module, cx))).await {
                Poll::Ready(Came::Carried) => return Ok(()),
                Poll::Ready(Came::End) => return Err(refusal),
                Poll::Ready(Came::Others) | Poll::Pending => {}
            }
            let complete = video != Codec::NONE && audio != Codec::NONE;
            if known && (complete || u128::from(facts.age_ms) >= TRACK_WAIT.as_millis()) {
                return Err(refusal);
            }
            if known {
                deadline = deadline.min(Instant::now() + TRACK_WAIT);
            }
            match timeout_at(deadline, poll_fn(|cx| self.poll_look(module, cx))).await {
                Ok(Came::Carried) => return Ok(()),
                Ok(Came::Others) => {}
                Ok(Came::End) | Err(_) => return Err(refusal),
            }
        }
    }
}

async fn first_span(viewer: &mut Viewer, stream: &Stream, deadline: Instant) -> Result<Arc<Span>, Refusal> {
    match timeout_at(deadline, poll_fn(|cx| viewer.poll_next(cx))).await {
        Ok(Some(span)) => Ok(span),
        Ok(None) if viewer.mount().is_unsupported() => {
            let facts = stream.facts();
            Err(Refusal::Codec { video: facts.video, audio: facts.audio })
        }
        Ok(None) if !stream.tags().is_ended() => Err(Refusal::Unavailable),
        Ok(None) | Err(_) => Err(Refusal::NotLive),
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use bytes::Bytes;
    use remuxd_plugin_api::{Format, FormatInfo, RemuxError, Remuxer, Setup, Sink};

    use super::*;
    use crate::conf::Config;
    use crate::media::{Millis, TagKind};
    use crate::module::{Terms, linked};
    use crate::stream::StreamKey;

    /// A format of AAC that makes nothing of it.
    struct Aac;

    impl Format for Aac {
        type Remuxer = Aac;

        fn info() -> FormatInfo {
            FormatInfo {
                name: "aac",
                version: "1",
                extensions: &["aac"],
                transport: Transport::HTTP,
                content_type: "audio/aac",
                video_codecs: &[],
                audio_codecs: &[Codec::AAC],
                options: &[],
            }
        }

        fn remuxer(_: &Setup) -> Result<Aac, RemuxError> {
            Ok(Aac)
        }
    }

    impl Remuxer for Aac {
        fn tag(&mut self, _: &remuxd_plugin_api::Tag, _: &mut dyn Sink) -> Result<(), RemuxError> {
            Ok(())
        }
    }

    const KEYFRAME: (TagKind, &[u8]) = (TagKind::VIDEO, b"\x17\x01\0\0\0k");
    const AAC_HEADER: (TagKind, &[u8]) = (TagKind::AUDIO, b"\xaf\0\x12\x10");
    const AAC: (TagKind, &[u8]) = (TagKind::AUDIO, b"\xaf\x01a");
    const MP3: (TagKind, &[u8]) = (TagKind::AUDIO, b"\x2fm");

    #[test]
    fn a_stream_is_judged_by_what_came_since_the_request_however_late_one_looks() {
        let codecs = |video, audio| Poll::Ready(Err(Refusal::Codec { video, audio }));
        let cases: [(&str, &[_], &[_], _); 7] = [
            ("nothing yet", &[], &[], Poll::Pending),
            ("carried", &[AAC_HEADER, AAC], &[], Poll::Ready(Ok(()))),
            ("turned to a codec that it carries", &[KEYFRAME, MP3], &[AAC], Poll::Ready(Ok(()))),
            ("no longer carried", &[KEYFRAME], &[AAC_HEADER, AAC, MP3], Poll::Ready(Ok(()))),
            ("no longer carried, before the request", &[KEYFRAME, AAC_HEADER, AAC, MP3], &[], {
                codecs(Codec::H264, Codec::MP3)
            }),
            ("not carried", &[KEYFRAME], &[MP3], codecs(Codec::H264, Codec::MP3)),
            ("the audio may still come", &[KEYFRAME], &[], Poll::Pending),
        ];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _guard = runtime.enter();
        let terms = Terms { generation: 1, max_output: 1 << 16, max_faults: 1, unload: false };
        let module = linked::<Aac>(&terms).unwrap();
        let config = Config::parse("[vhost.a]", "remuxd.toml").unwrap();
        for (what, before, after, expected) in cases {
            let publisher = Hub::new().publish(StreamKey::new("a", "live", "x"), &config.vhosts[0]).unwrap();
            let push = |tags: &[(TagKind, &'static [u8])]| {
                for &(kind, body) in tags {
                    assert!(publisher.push(Tag::new(kind, Millis(0), Bytes::from_static(body)), Millis(0)));
                }
            };
            push(before);
            let mut media = Media::of(publisher.stream());
            push(after);
            let deadline = Instant::now() + Duration::from_secs(60);
            let judged = std::pin::pin!(media.wait_for(&module, deadline))
                .poll(&mut Context::from_waker(Waker::noop()));
            assert_eq!(judged, expected, "{what}");
        }
    }
}
