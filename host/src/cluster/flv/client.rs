//! The request for an FLV stream.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Context;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_LENGTH, HOST, LOCATION, TRANSFER_ENCODING, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

use super::reader::FlvReader;
use crate::budget::Account;
use crate::cluster::connector::Connection;
use crate::cluster::error::UpstreamError;
use crate::cluster::location::Location;
use crate::media::Tag;
use crate::policy::HOPS_HEADER;

/// Limit of the head of a response, in bytes.
const MAX_HEAD: usize = 64 << 10;

/// Settings of a request.
#[derive(Clone, Debug)]
pub struct FlvSettings {
    /// The longest body of a tag, in bytes.
    pub max_message: u32,
    /// The hops before this one, and this one.
    pub hops: String,
}

/// Moves bytes between the socket and the response, until the connection is closed. Its error reaches the response too.
struct Open(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

/// A response that sends one stream.
pub struct FlvClient {
    connection: Open,
    body: Incoming,
    /// Whether the end of the body is marked. Otherwise a connection that breaks looks like one that ends.
    is_framed: bool,
    reader: FlvReader,
    input: Bytes,
}

impl FlvClient {
    /// Requests a stream. Returns once the server accepts it. Tags are charged to `account`. The time limit is the caller's.
    ///
    /// # Errors
    /// The server refuses it or fails.
    pub async fn play(
        connection: Connection,
        location: &Location,
        settings: FlvSettings,
        account: Account,
    ) -> Result<FlvClient, UpstreamError> {
        let request = Request::get(location.path_and_query())
            .header(HOST, location.authority())
            .header(USER_AGENT, concat!("remuxd/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "*/*")
            .header(HOPS_HEADER, &settings.hops)
            .body(Empty::<Bytes>::new());
        let request = request.map_err(|_| UpstreamError::InvalidRequest)?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HEAD);
        let (mut sender, connection) = builder.handshake(TokioIo::new(connection.socket)).await?;
        let mut connection = Open(Some(Box::pin(async { drop(connection.await) })));
        let mut response = Box::pin(sender.send_request(request));
        let response = poll_fn(|cx| {
            connection.poll(cx);
            response.as_mut().poll(cx)
        });
        let response = accepted(response.await?, location)?;
        let headers = response.headers();
        let is_framed = headers.contains_key(TRANSFER_ENCODING) || headers.contains_key(CONTENT_LENGTH);
        let reader = FlvReader::new(settings.max_message, account);
        Ok(FlvClient { connection, body: response.into_body(), is_framed, reader, input: Bytes::new() })
    }

    /// Reads the next tag; `None` at the end of the stream. Cancelling it loses nothing.
    ///
    /// # Errors
    /// The server fails, or what it sends is no FLV.
    pub async fn next_tag(&mut self) -> Result<Option<Tag>, UpstreamError> {
        loop {
            if let Some(tag) = self.reader.read(&mut self.input)? {
                return Ok(Some(tag));
            }
            let frame = poll_fn(|cx| {
                self.connection.poll(cx);
                Pin::new(&mut self.body).poll_frame(cx)
            });
            match frame.await.transpose()? {
                Some(frame) => self.input = frame.into_data().unwrap_or_default(),
                None if self.is_framed && self.reader.is_between_tags() => return Ok(None),
                None => return Err(UpstreamError::Closed),
            }
        }
    }
}

impl Open {
    fn poll(&mut self, cx: &mut Context<'_>) {
        if self.0.as_mut().is_some_and(|open| open.as_mut().poll(cx).is_ready()) {
            self.0 = None;
        }
    }
}

/// Returns a response that has the stream.
fn accepted(response: Response<Incoming>, location: &Location) -> Result<Response<Incoming>, UpstreamError> {
    let status = response.status();
    match status {
        StatusCode::OK => return Ok(response),
        StatusCode::NOT_FOUND | StatusCode::GONE => return Err(UpstreamError::NotFound),
        _ => {}
    }
    let target = response.headers().get(LOCATION).and_then(|target| target.to_str().ok());
    match target {
        Some(target) if status.is_redirection() => {
            Err(UpstreamError::Redirect { url: location.absolute(target) })
        }
        _ => Err(UpstreamError::Refused { code: status.as_str().to_owned(), description: String::new() }),
    }
}
