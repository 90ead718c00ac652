//! A stream that an origin sends.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::connector::{Connection, Connector, Led};
use super::error::UpstreamError;
use super::flv::{FlvClient, FlvSettings};
use super::location::{Location, MAX_REDIRECTS};
use super::rtmp::{RtmpClient, RtmpSettings};
use crate::budget::Account;
use crate::conf::Current;
use crate::media::Tag;
use crate::policy::{Action, HOPS};

/// Opens streams of origins.
#[derive(Clone)]
pub(super) struct Opener {
    pub connector: Connector,
    pub current: Arc<Current>,
}

/// The party whose credentials a request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// This node.
    Node,
    /// A viewer; its credentials are in the query of the location.
    Viewer,
}

/// An open stream.
pub(super) struct Incoming {
    client: Client,
    /// A tag that came before the server accepted the request.
    early: Option<Tag>,
}

enum Client {
    Rtmp(Box<RtmpClient>),
    Flv(Box<FlvClient>),
}

impl Opener {
    /// Plays the stream at `origin`, to which `led` has led, or where that redirects to, on behalf of `asker`. `hops` are the nodes that it passes on the
    /// way to a client, with this one. Tags are charged to `account`. All of it may take `limit`. `on_ask` gets the address of each
    /// server before it is asked.
    ///
    /// # Errors
    /// The server cannot be reached, or does not send the stream.
    pub async fn open(
        &self,
        (origin, led): (&Location, Led),
        asker: Asker,
        hops: &str,
        account: &Account,
        limit: Duration,
        on_ask: impl Fn(IpAddr) + Send,
    ) -> Result<Incoming, UpstreamError> {
        let deadline = Instant::now() + limit;
        let (mut location, mut led) = (origin.clone(), led);
        for _ in 0..=MAX_REDIRECTS {
            let connection = timeout_at(deadline, self.connector.connect(&location, led)).await;
            let connection = connection.map_err(|_| UpstreamError::NoAnswer { timeout: limit })??;
            on_ask(connection.address.ip());
            // Credentials of the cluster are for the hosts of the config and of the directory.
            let config = self.current.config();
            let is_signed = asker == Asker::Node && location.has_host_of(origin);
            let secret = config.cluster.secret.as_ref().filter(|_| is_signed);
            let asked = location.signed(Action::Play, secret);
            let asked = asked.with_parameter(HOPS, hops);
            match self.play(connection, &asked, hops, account.clone(), (deadline, limit)).await {
                Err(UpstreamError::Redirect { url }) => {
                    location = location.redirected(&url)?;
                    led = Led::ByRedirect;
                }
                opened => return opened,
            }
        }
        Err(UpstreamError::Redirects { times: MAX_REDIRECTS })
    }

    async fn play(
        &self,
        connection: Connection,
        location: &Location,
        hops: &str,
        account: Account,
        (deadline, limit): (Instant, Duration),
    ) -> Result<Incoming, UpstreamError> {
        let config = self.current.config();
        let (max_message, hops) = (config.limits.max_message, hops.to_owned());
        if !location.scheme.is_rtmp() {
            let client = FlvClient::play(connection, location, FlvSettings { max_message, hops }, account);
            let client = timeout_at(deadline, client).await;
            let client = client.map_err(|_| UpstreamError::Silent { timeout: limit })??;
            return Ok(Incoming { client: Client::Flv(Box::new(client)), early: None });
        }
        let settings = RtmpSettings {
            chunk_size: config.rtmp.chunk_size,
            window_ack_size: config.rtmp.window_ack_size,
            max_message,
            max_buffered: config.limits.max_buffered,
            hops,
        };
        let limit = (deadline, limit);
        let (client, early) = RtmpClient::play(connection, location, settings, account, limit).await?;
        Ok(Incoming { client: Client::Rtmp(Box::new(client)), early })
    }
}

impl Incoming {
    /// Reads the next tag; `None` at the end of the stream. Cancelling it loses nothing.
    ///
    /// # Errors
    /// The server fails, or ends the connection without an end of the stream.
    pub async fn next_tag(&mut self) -> Result<Option<Tag>, UpstreamError> {
        if let Some(tag) = self.early.take() {
            return Ok(Some(tag));
        }
        match &mut self.client {
            Client::Rtmp(client) => client.next_tag().await,
            Client::Flv(client) => client.next_tag().await,
        }
    }
}
