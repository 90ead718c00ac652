//! Access: the decision on a request, and what the host remembers about decisions.

use std::net::IpAddr;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use tracing::info;

use super::admission::Admission;
use super::bans::{Ban, BanError, BanTarget};
use super::groups::GroupTotals;
use super::hooks::{Connected, Ending, Facts, HookAction, Hooks, VhostHooks, ask};
use super::ids::{ConnectionId, SessionId};
use super::key_set::KeySets;
use super::load::Load;
use super::origin_check::OriginCheck;
use super::refusals::Refusals;
use super::session::Session;
use super::sessions::{SessionLog, Sessions};
use super::stream_totals::StreamTotals;
use super::targets::Targets;
use super::totals::{Totals, Traffic};
use super::{Action, Policy, Protocol, Refusal, Request};
use crate::conf::Current;
use crate::stream::StreamKey;

/// State that all sessions of the host share. It outlives the policies, which a reload replaces.
#[derive(Debug)]
pub struct Access {
    sessions: Arc<Sessions>,
    hooks: Arc<Hooks>,
    key_sets: KeySets,
    origins: OnceLock<Arc<dyn OriginCheck>>,
    load: Load,
    targets: ArcSwap<Targets>,
}

/// A request to connect over RTMP. It has no `Debug`: URL and parameters may be secrets.
pub struct ConnectionRequest {
    /// The connection.
    pub id: ConnectionId,
    /// The app, with the vhost as configured; the stream is not known yet.
    pub key: StreamKey,
    /// The client's address.
    pub address: IpAddr,
    /// `tcUrl`, as sent.
    pub tc_url: String,
    /// The query of `tcUrl`, without the `?`.
    pub query: String,
    /// `pageUrl`.
    pub page_url: String,
    /// `flashVer`.
    pub user_agent: String,
}

impl Access {
    /// Creates it without sessions, for a host behind the trusted proxies of `current`. Hooks are asked by the runtime around it.
    pub fn new(current: Arc<Current>) -> Arc<Access> {
        let sessions = Sessions::new(current);
        let hooks = Hooks::new(sessions.ids.session().to_string(), sessions.clone());
        let (key_sets, origins, load) = (KeySets::default(), OnceLock::new(), Load::default());
        Arc::new(Access { sessions, hooks, key_sets, origins, load, targets: ArcSwap::default() })
    }

    /// Decides on a request, which came over `connection` if that is RTMP, and logs a refusal. Ready at once unless the vhost has
    /// hooks.
    ///
    /// # Errors
    /// [`Refusal`] by the first rule that refuses.
    pub async fn admit(
        &self,
        policy: &Policy,
        request: Request,
        connection: Option<Arc<Connected>>,
    ) -> Result<Admission, Refusal> {
        let decided = self.decide(policy, &request, connection).await;
        if let Err(refusal) = &decided
            && let Some(before) = self.refusals().count(refusal.name())
        {
            let Request { action, protocol, address, connection, .. } = &request;
            let stream = policy.shown(&request);
            info!(client = %address, %connection, %action, %protocol, %stream, reason = %refusal, before, "access refused");
        }
        decided
    }

    /// Decides by the load, then the rules, then the hooks, then the origins of an edge.
    async fn decide(
        &self,
        policy: &Policy,
        request: &Request,
        connection: Option<Arc<Connected>>,
    ) -> Result<Admission, Refusal> {
        self.check_load(request.action)?;
        let (mut admission, hooks) = policy.decide(request, &self.sessions, &self.key_sets).await?;
        if let Some(hooks) = hooks {
            admission = self.ask_hooks(policy, request, admission, hooks, connection).await?;
        }
        if let (Some(vhost), Some(origins)) = (policy.asks_origins(request), self.origins.get()) {
            origins.check(vhost, request).await?;
        }
        Ok(admission)
    }

    /// Refuses new viewers while the host is late. Publishers come first.
    fn check_load(&self, action: Action) -> Result<(), Refusal> {
        let (lag, limit) = (self.load.least(), self.sessions.config().limits.max_lag);
        match action {
            Action::Play if limit > Duration::ZERO && lag > limit => Err(Refusal::Late { lag, limit }),
            Action::Play | Action::Publish => Ok(()),
        }
    }

    /// Asks the hooks about a session that the rules accept.
    async fn ask_hooks(
        &self,
        policy: &Policy,
        request: &Request,
        mut admission: Admission,
        vhost: &Arc<VhostHooks>,
        connection: Option<Arc<Connected>>,
    ) -> Result<Admission, Refusal> {
        let session = admission.session();
        let session_id = session.id().to_string();
        let facts = Facts {
            client_id: connection.as_ref().map_or_else(|| session_id.clone(), |one| one.id().to_owned()),
            session_id,
            protocol: request.protocol.to_string(),
            address: request.address,
            key: session.key().clone(),
            tc_url: policy.without_secrets(&request.tc_url),
            param: policy.without_secrets(&param(&request.query)),
            page_url: request.page_url.clone(),
            user_agent: request.user_agent.clone(),
            format: request.format.clone(),
        };
        let (gate, end) = match request.action {
            Action::Publish => (HookAction::Publish, HookAction::Unpublish),
            Action::Play => (HookAction::Play, HookAction::Stop),
        };
        let ending = Ending::of_session(&self.hooks, vhost, end, facts, session, connection);
        admission.owe(ask(ending, gate).await?);
        Ok(admission)
    }

    /// Decides on an RTMP connection, and logs a refusal. Ready at once unless the policy has such a hook.
    ///
    /// # Errors
    /// [`Refusal`] by a hook.
    pub async fn connect(
        &self,
        policy: &Policy,
        request: ConnectionRequest,
    ) -> Result<Arc<Connected>, Refusal> {
        let ConnectionRequest { id: connection, key, address, tc_url, query, page_url, user_agent } = request;
        let id = connection.to_string();
        // Whatever a banned client asks for is refused; hooks are not asked about it.
        let is_banned = self.sessions.check_address(address).is_err();
        let Some(vhost) = policy.hooks().filter(|_| !is_banned) else { return Ok(Connected::new(id, None)) };
        let facts = Facts {
            client_id: id.clone(),
            session_id: String::new(),
            protocol: Protocol::Rtmp.to_string(),
            address,
            key: StreamKey::new(&key.vhost, &policy.without_secrets(&key.app), ""),
            tc_url: policy.without_secrets(&tc_url),
            param: policy.without_secrets(&param(&query)),
            page_url,
            user_agent,
            format: String::new(),
        };
        let ending = Ending::of_connection(&self.hooks, vhost, facts);
        match ask(ending, HookAction::Connect).await {
            Ok(ending) => Ok(Connected::new(id, Some(ending))),
            Err(refusal) => {
                let refusal = Refusal::from(refusal);
                if let Some(before) = self.refusals().count(refusal.name()) {
                    let vhost = &key.vhost;
                    info!(client = %address, %connection, action = "connect", %vhost, reason = %refusal, before, "access refused");
                }
                Err(refusal)
            }
        }
    }

    /// Accepts an RTMP connection to no vhost: whatever it asks for will be refused.
    pub fn connect_to_none(&self, id: ConnectionId) -> Arc<Connected> {
        Connected::new(id.to_string(), None)
    }

    /// How late the host sends.
    pub fn load(&self) -> &Load {
        &self.load
    }

    /// The nodes to which viewers may be redirected, which the directory replaces as a whole.
    pub fn targets(&self) -> &ArcSwap<Targets> {
        &self.targets
    }

    /// Returns the id of a new connection.
    pub fn next_connection(&self) -> ConnectionId {
        self.sessions.ids.connection()
    }

    /// Returns the number of players and viewers of a stream, also of those that wait for it.
    pub fn viewers(&self, key: &StreamKey) -> u32 {
        self.sessions.viewers(key)
    }

    /// Returns the name of this node in hop lists.
    pub fn node(&self) -> String {
        self.sessions.node()
    }

    /// The refusals of the host, by this and by others.
    pub fn refusals(&self) -> &Refusals {
        &self.sessions.refusals
    }

    /// Ends a session, in the way of its protocol. Returns false if there is none with this id.
    pub fn kick(&self, id: SessionId) -> bool {
        self.sessions.kick(id)
    }

    /// Refuses what `target` covers for `time`, and ends its sessions. Returns their number.
    ///
    /// # Errors
    /// It cannot be banned.
    pub fn ban(&self, target: &BanTarget, time: Duration) -> Result<usize, BanError> {
        let ended = self.sessions.ban(target, time)?;
        info!(%target, ?time, ended, "banned");
        Ok(ended)
    }

    /// Lifts a ban. Returns false if there is none.
    pub fn unban(&self, target: &BanTarget) -> bool {
        let lifted = self.sessions.unban(target);
        if lifted {
            info!(%target, "ban lifted");
        }
        lifted
    }

    /// Returns the bans that have not ended, the oldest first.
    pub fn bans(&self) -> Vec<Ban> {
        self.sessions.bans()
    }

    /// Sets how origins are asked about viewers, once.
    pub fn ask_origins(&self, origins: Arc<dyn OriginCheck>) {
        let _ = self.origins.set(origins);
    }

    /// Sets the access log, once.
    pub fn set_log(&self, log: Arc<dyn SessionLog>) {
        self.sessions.set_log(log);
    }

    /// Returns the records of all sessions, the oldest first.
    pub fn sessions(&self) -> Vec<Arc<Session>> {
        self.sessions.list()
    }

    /// Returns the number of sessions, and the records of some by their places in [`Access::sessions`].
    pub fn session_page(&self, places: Range<usize>) -> (usize, Vec<Arc<Session>>) {
        self.sessions.page(places)
    }

    /// Returns the record of a session.
    pub fn session(&self, id: SessionId) -> Option<Arc<Session>> {
        self.sessions.find(id)
    }

    /// Returns the records of all sessions, the oldest first, and what those before them amount to.
    pub fn amounts(&self) -> (Vec<Arc<Session>>, Totals) {
        self.sessions.amounts()
    }

    /// Returns what all sessions have done so far, and the numbers of those that have ended, by action and kind of the end.
    pub fn groups(&self) -> (Vec<GroupTotals>, Vec<(Action, &'static str, u64)>) {
        self.sessions.groups()
    }

    /// Returns what is known of each stream, if [`Access::limit_series`] keeps any.
    pub fn streams(&self) -> Vec<StreamTotals> {
        self.sessions.streams()
    }

    /// Returns what viewers and players are sent. Takes time for each session.
    pub fn traffic(&self) -> Traffic {
        self.sessions.traffic()
    }

    /// Limits the number of series of streams; 0, the default, keeps none.
    pub fn limit_series(&self, max_series: usize) {
        self.sessions.limit_series(max_series);
    }

    /// The hooks of the host.
    pub fn hooks(&self) -> &Arc<Hooks> {
        &self.hooks
    }
}

/// Returns a query with its `?`, or nothing.
fn param(query: &str) -> String {
    if query.is_empty() { String::new() } else { format!("?{query}") }
}
