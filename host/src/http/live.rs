//! Live requests: from a route to a viewer, with the outcome known before the status line.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request, Response};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::media::{Codec, Packet, Tag};
use crate::module::{Module, Recipe, Transport};
use crate::stream::{JoinAt, Pace, Reader, Ring, Span, Stream, Viewer};

use super::request::host;
use super::router::{Route, query_pairs};
use super::{Body, Client, Refusal, Service, pacer, websocket};

/// Tells nginx not to buffer the response.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// How long a remuxer may take to its first block, when there is something to remux.
const REMUX_TIME: Duration = Duration::from_secs(5);
/// How long after the first track of a stream its second may come. It is not there when the stream is older, or when
/// none came while a viewer has waited this long.
const TRACK_WAIT: Duration = Duration::from_secs(1);

/// Answers a GET or HEAD for a live mount.
pub(super) async fn respond<B: Send + 'static>(
    service: &Arc<Service>,
    request: &mut Request<B>,
    upgrade: Option<websocket::Upgrade>,
    client: &Client,
    stopping: &CancellationToken,
) -> Result<Response<Body>, Refusal> {
    let transport = if upgrade.is_some() { Transport::WEBSOCKET } else { Transport::HTTP };
    let mut target = target(service, request, transport)?;
    let play = &target.route.vhost.play;
    let deadline = Instant::now() + play.wait.min(Duration::from_secs(86_400));

    if service.hub.find(&target.route.key).is_none() {
        info!(client = %client.address, stream = %target.route.key, "waiting for a publisher");
    }
    let wait = service.hub.wait_for(target.route.key.clone());
    let stream = tokio::select! {
        stream = timeout_at(deadline, wait) => stream.map_err(|_| Refusal::NotLive)?,
        () = stopping.cancelled() => return Err(Refusal::Unavailable),
    };
    let mut media = Media::of(&stream);
    // Watched first and judged then, so that a viewer who was here before the first frame gets it.
    let mut viewer = watch(service, &mut target, &stream)?;
    media.wait_for(target.module(), deadline).await?;
    drop(media);
    // The stream is there: what is left to wait for is the remuxer, however short the wait for a stream may be.
    let deadline = deadline.max(Instant::now() + REMUX_TIME);
    let first = first_span(&mut viewer, &stream, deadline).await?;
    let mut response = if request.method() == Method::HEAD {
        Response::new(Body::empty())
    } else {
        info!(client = %client.address, stream = %target.route.key, module = target.module().name(), "viewing");
        match upgrade {
            Some(upgrade) => return Ok(upgrade.accept(request, viewer, first)),
            None => Response::new(Body::live(viewer, first)),
        }
    };
    let content_type = HeaderValue::from_str(target.module().content_type());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type.map_err(|_| Refusal::Unavailable)?);
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

/// Whether a stream that the request means is there now.
pub(super) fn is_live<B>(service: &Service, request: &Request<B>) -> Result<bool, Refusal> {
    let uri = request.uri();
    let routes = service.router.load().routes(host(request), uri.path(), uri.query().unwrap_or(""))?;
    Ok(routes.iter().any(|route| service.hub.find(&route.key).is_some()))
}

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

/// The first mount of the request whose extension a module answers over `transport`.
fn target<B>(service: &Service, request: &Request<B>, transport: Transport) -> Result<Target, Refusal> {
    let uri = request.uri();
    let query = uri.query().unwrap_or("");
    let routes = service.router.load().routes(host(request), uri.path(), query)?;
    let mut refusal = Refusal::NotMounted;
    for route in routes {
        let extension = &route.mount.pattern.extension;
        if let Some(module) = service.registry.find(extension, transport) {
            let recipe = Recipe::new(module, &route.mount.options, query_pairs(query))?;
            return Ok(Target { route, transport, recipe });
        }
        if service.registry.find(extension, Transport::WEBSOCKET).is_some() {
            refusal = Refusal::WebSocketOnly;
        }
    }
    Err(refusal)
}

/// A viewer of the target; the first of a mount starts its clock.
///
/// The module may have changed while the request waited, so it is looked up again.
fn watch(service: &Service, target: &mut Target, stream: &Arc<Stream>) -> Result<Viewer, Refusal> {
    let Target { route, transport, recipe } = target;
    let mount = &route.mount;
    let look_up = || {
        let module =
            service.registry.find(&mount.pattern.extension, *transport).ok_or(Refusal::NotMounted)?;
        if !Arc::ptr_eq(&module, recipe.module()) {
            *recipe = recipe.of(module)?;
        }
        Ok::<_, Refusal>(recipe.clone())
    };
    let (viewer, is_first) = stream.watch(look_up, mount.fast_cache, &service.pool)?;
    if is_first {
        tokio::spawn(pacer::pace_mount(stream.clone(), viewer.mount().clone()));
    }
    Ok(viewer)
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
    use crate::stream::{Hub, StreamKey};

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
