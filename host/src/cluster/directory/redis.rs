//! The directory in Redis: the task that keeps a connection, renews what this node has, and hears what others publish.
//!
//! While there is no connection, nothing is forgotten, and streams go on. A new connection begins with everything that this node has and
//! follows, so that a Redis that was away, flushed or restored from an old copy is right again at once.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::info;

use super::carriers::own_group;
use super::connect::connect;
use super::directory::Directory;
use super::entry::{NodeEntry, StreamEntry};
use super::link::{Link, LinkError, LinkOwner, TIMEOUT};
use super::resp::Value;
use super::scripts::{Names, Put};
use super::shared::{Shared, own_name, wall_ms};
use crate::cluster::backoff::Backoff;
use crate::conf::{Config, DirectoryKind};
use crate::lifecycle::Lifecycle;
use crate::stream::StreamKey;

/// Interval of checks of the config, and of the health of the directory.
const CHECK: Duration = Duration::from_millis(500);

/// Number of commands, and of streams in a lookup, that are sent at once.
const CHUNK: usize = 200;

/// A renewal of a lease, and a lookup of all followed streams, take this many turns of a third of the lease.
const TURNS: u64 = 3;

/// The most attempts of a publisher to get an id that is great enough.
const ATTEMPTS: usize = 4;

/// A connection that has lasted this long works: the next failure is the first one again.
const STEADY: Duration = Duration::from_secs(10);

/// The task that keeps the directory in Redis.
struct Keeper {
    shared: Arc<Shared>,
    /// A node that leaves is no more in the list.
    lifecycle: Lifecycle,
}

impl Directory {
    /// Keeps the directory in Redis up to date, and tells `lifecycle` whether the directory answers, until the host stops.
    pub async fn keep(self, lifecycle: Lifecycle) {
        let keeper = Keeper { shared: self.0.clone(), lifecycle: lifecycle.clone() };
        let watch = async {
            loop {
                lifecycle.set_degraded(!self.health().1);
                sleep(CHECK).await;
            }
        };
        tokio::select! {
            () = keeper.run() => {}
            () = watch => {}
        }
    }
}

/// A connection that is in use.
struct Session<'a> {
    keeper: &'a Keeper,
    config: Arc<Config>,
    names: Names,
    link: Link,
    subscribed: HashSet<StreamKey>,
    turn: u64,
    random: RandomState,
}

/// Why a connection is left.
enum End {
    Failed(LinkError),
    /// The config of the cluster is another one.
    Changed,
}

impl Keeper {
    async fn run(self) {
        let mut backoff = Backoff::default();
        loop {
            let config = self.shared.current.config();
            let began = Instant::now();
            let end = if config.cluster.directory.kind == DirectoryKind::Redis {
                tokio::select! {
                    end = self.connection(config) => Some(end),
                    () = self.lifecycle.stopping() => return,
                }
            } else {
                None
            };
            let pause = match end {
                Some(End::Failed(error)) => {
                    self.shared.fail(&error);
                    if began.elapsed() >= STEADY {
                        backoff.reset();
                    }
                    backoff.next()
                }
                Some(End::Changed) => Duration::ZERO,
                None => CHECK,
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.lifecycle.stopping() => return,
            }
        }
    }

    /// Opens a connection and uses it until it ends.
    async fn connection(&self, config: Arc<Config>) -> End {
        let opened = match timeout(4 * TIMEOUT, connect(&config)).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => return End::Failed(error),
            Err(_) => return End::Failed(LinkError::Timeout),
        };
        let (LinkOwner { link, mut pushes, mut task }, server) = opened;
        info!(server, "the directory answers");
        {
            let mut state = self.shared.lock();
            state.counts.connects += 1;
            state.work.changed.clear();
            state.link = Some(link.clone());
        }
        let directory = &config.cluster.directory;
        let names = Names::of(directory);
        let mut session = Session {
            keeper: self,
            config: config.clone(),
            names,
            link,
            subscribed: HashSet::new(),
            turn: 0,
            random: RandomState::new(),
        };
        let mut has_told = false;
        let end = tokio::select! {
            end = session.run() => end,
            error = &mut task => {
                has_told = true;
                End::Failed(error.unwrap_or(LinkError::Closed))
            }
            () = hear(&self.shared, &config, &mut pushes) => End::Failed(LinkError::Closed),
        };
        self.shared.lock().link = None;
        match end {
            // The connection's own reason says more than that of a request on it.
            End::Failed(LinkError::Closed) if !has_told => {
                drop(session);
                let reason = timeout(CHECK, task).await;
                End::Failed(reason.ok().and_then(Result::ok).unwrap_or(LinkError::Closed))
            }
            end => end,
        }
    }
}

/// Takes notifications.
async fn hear(shared: &Shared, config: &Config, pushes: &mut tokio::sync::mpsc::Receiver<Vec<Value>>) {
    while let Some(elements) = pushes.recv().await {
        if let [kind, _, Value::Text(payload)] = &elements[..]
            && kind.text() == Some(b"message")
        {
            shared.on_message(config, payload);
        }
    }
}

impl Session<'_> {
    async fn run(&mut self) -> End {
        let Err(error) = self.keep().await else { return End::Changed };
        End::Failed(error)
    }

    /// Returns when the config of the cluster has changed.
    async fn keep(&mut self) -> Result<(), LinkError> {
        let shared = &self.keeper.shared;
        self.renew_all().await?;
        let used = shared.lock().book.used();
        self.subscribe(used).await?;
        let followed = shared.lock().book.followed();
        self.look(&followed).await?;
        self.work().await?;
        let (mut next, mut check) = (Instant::now() + self.pause(), Instant::now() + CHECK);
        loop {
            tokio::select! {
                () = shared.wake.notified() => self.work().await?,
                () = sleep_until(next) => {
                    next = Instant::now() + self.pause();
                    self.turn += 1;
                    self.renew_all().await?;
                    let mut followed = shared.lock().book.followed();
                    followed.retain(|key| (self.hash(key) + self.turn).is_multiple_of(TURNS));
                    self.look(&followed).await?;
                    self.work().await?;
                }
                () = sleep_until(check) => {
                    check = Instant::now() + CHECK;
                    if shared.current.config().cluster != self.config.cluster {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Renews the leases of this node and of its publishers, and reads the nodes.
    async fn renew_all(&mut self) -> Result<(), LinkError> {
        let (own, followed) = {
            let book = &self.keeper.shared.lock().book;
            (book.all_own(), book.followed())
        };
        self.put(own).await?;
        self.carry(&followed).await?;
        self.nodes().await
    }

    /// Puts the entries of own publishers in place, those too that get a greater id in the course of it.
    async fn put(&self, mut entries: Vec<StreamEntry>) -> Result<(), LinkError> {
        let Some(secret) = &self.config.cluster.secret else { return Ok(()) };
        for _ in 0..ATTEMPTS {
            for chunk in entries.chunks(CHUNK) {
                let command =
                    |entry: &StreamEntry| self.names.put(&entry.key, &entry.sign(secret), Put::Renew);
                let commands: Vec<_> = chunk.iter().map(command).collect();
                let replies = self.ask_all(&commands).await?;
                for (entry, reply) in chunk.iter().zip(&replies) {
                    self.on_put(&entry.key, reply);
                }
            }
            entries = std::mem::take(&mut self.keeper.shared.lock().work.raised);
            if entries.is_empty() {
                return Ok(());
            }
        }
        self.keeper.shared.lock().work.raised.extend(entries);
        Ok(())
    }

    fn on_put(&self, key: &StreamKey, reply: &Value) {
        let shared = &self.keeper.shared;
        match reply.list() {
            Some([Value::Text(code), text, left]) => {
                let Some(entry) = shared.read(&self.config, text, Some(key)) else { return };
                if &code[..] == b"seen" {
                    shared.on_seen(&self.config, &entry);
                } else {
                    shared.on_held(&self.config, entry, left.integer() == Some(0));
                }
            }
            Some(_) => {}
            None => self.complain(reply, "a renewal"),
        }
    }

    /// Writes the entry of this node, and reads those of all.
    async fn nodes(&self) -> Result<(), LinkError> {
        let (shared, config) = (&self.keeper.shared, &self.config);
        let (name, Some(secret)) = (own_name(config), &config.cluster.secret) else { return Ok(()) };
        let own = NodeEntry { at: wall_ms(), ..shared.roster.own(&config.cluster.directory, name) };
        let is_ready = self.keeper.lifecycle.is_ready();
        let text = if is_ready { own.sign(secret) } else { String::new() };
        let mut commands = vec![self.names.node(name, &text)];
        if !is_ready {
            commands.push(self.names.remove_node(name));
        }
        let replies = self.ask_all(&commands).await?;
        let Some(Value::List(found)) = replies.first() else {
            replies.iter().take(1).for_each(|reply| self.complain(reply, "the list of nodes"));
            return Ok(());
        };
        let mut nodes = Vec::new();
        for pair in found.chunks_exact(2) {
            let [name, text] = pair else { continue };
            let name = String::from_utf8_lossy(name.text().unwrap_or_default());
            let entry = match text {
                Value::Text(text) => NodeEntry::read(text, &name, secret, &config.cluster.allow),
                other => {
                    Err(super::entry::EntryError::too_long(other.integer().unwrap_or_default() as usize))
                }
            };
            match entry {
                Ok(entry) => nodes.push(entry),
                Err(error) => shared.refuse(&error, Some(super::resp::shown(&name).to_string())),
            }
        }
        nodes.sort_by(|one, other| one.name.cmp(&other.name));
        shared.roster.replace(nodes);
        Ok(())
    }

    /// Looks streams up.
    async fn look(&self, keys: &[StreamKey]) -> Result<(), LinkError> {
        let shared = &self.keeper.shared;
        for chunk in keys.chunks(CHUNK) {
            let replies = self.ask_all(&[self.names.look(chunk)]).await?;
            shared.lock().counts.lookups += chunk.len() as u64;
            match replies.first() {
                Some(Value::List(answers)) if answers.len() == chunk.len() => {
                    for (key, answer) in chunk.iter().zip(answers) {
                        shared.on_look(&self.config, key, answer);
                    }
                }
                other => other.into_iter().for_each(|reply| self.complain(reply, "a lookup")),
            }
        }
        Ok(())
    }

    /// Does what has come up since the last time.
    async fn work(&mut self) -> Result<(), LinkError> {
        let shared = &self.keeper.shared;
        let (changed, raised, present, ended) = {
            let mut state = shared.lock();
            let work = std::mem::take(&mut state.work);
            (work.changed, work.raised, work.present, state.book.take_ended())
        };
        self.put(raised).await?;
        self.present(present.into_values().collect()).await?;
        self.end(ended).await?;
        let new = self.subscribe(changed).await?;
        // What was published before the subscription.
        let new: Vec<_> = {
            let book = &shared.lock().book;
            new.into_iter().filter(|key| book.own(key).is_none()).collect()
        };
        self.look(&new).await?;
        self.carry(&new).await
    }

    /// Tells the directory that own publishers have left.
    async fn end(&self, ended: Vec<StreamEntry>) -> Result<(), LinkError> {
        let Some(secret) = &self.config.cluster.secret else { return Ok(()) };
        for chunk in ended.chunks(CHUNK) {
            let command = |entry: &StreamEntry| self.names.end(&entry.key, &entry.sign(secret));
            let commands: Vec<_> = chunk.iter().map(command).collect();
            match self.ask_all(&commands).await {
                Ok(replies) => replies.iter().for_each(|reply| self.complain(reply, "an end")),
                Err(error) => {
                    self.keeper.shared.lock().book.keep_ended(ended);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Presents entries that the directory has lost.
    async fn present(&self, entries: Vec<StreamEntry>) -> Result<(), LinkError> {
        let Some(secret) = &self.config.cluster.secret else { return Ok(()) };
        for chunk in entries.chunks(CHUNK) {
            let command = |entry: &StreamEntry| self.names.present(&entry.key, &entry.sign(secret));
            let commands: Vec<_> = chunk.iter().map(command).collect();
            let replies = self.ask_all(&commands).await?;
            self.keeper.shared.lock().counts.presented += chunk.len() as u64;
            replies.iter().for_each(|reply| self.complain(reply, "an entry that was seen"));
        }
        Ok(())
    }

    /// Enters this node as the carrier of streams that it pulls.
    async fn carry(&self, keys: &[StreamKey]) -> Result<(), LinkError> {
        let Some(group) = own_group(&self.config.cluster.directory) else { return Ok(()) };
        for chunk in keys.chunks(CHUNK) {
            let replies = self.ask_all(&[self.names.carry(group, own_name(&self.config), chunk)]).await?;
            replies.iter().for_each(|reply| self.complain(reply, "a carrier"));
        }
        Ok(())
    }

    /// Removes this node as the carrier of streams that it pulls no more.
    async fn drop_carried(&self, keys: &[StreamKey]) -> Result<(), LinkError> {
        let Some(group) = own_group(&self.config.cluster.directory) else { return Ok(()) };
        for chunk in keys.chunks(CHUNK) {
            let command = self.names.drop_carried(group, own_name(&self.config), chunk);
            let replies = self.ask_all(&[command]).await?;
            replies.iter().for_each(|reply| self.complain(reply, "a carrier"));
        }
        Ok(())
    }

    /// Begins or ends subscriptions to streams, as they are in use. Returns those that are new.
    async fn subscribe(&mut self, changed: Vec<StreamKey>) -> Result<Vec<StreamKey>, LinkError> {
        let (mut on, mut off) = (Vec::new(), Vec::new());
        for key in changed {
            let is_used = self.keeper.shared.lock().book.is_used(&key);
            if is_used && self.subscribed.insert(key.clone()) {
                on.push(key);
            } else if !is_used && self.subscribed.remove(&key) {
                off.push(key);
            }
        }
        for (keys, is_on) in [(&off, false), (&on, true)] {
            for chunk in keys.chunks(CHUNK) {
                self.link.subscribe(&self.names.subscribe(chunk, is_on)).await?;
            }
        }
        self.drop_carried(&off).await?;
        Ok(on)
    }

    async fn ask_all(&self, commands: &[Vec<Vec<u8>>]) -> Result<Vec<Value>, LinkError> {
        let replies = self.link.ask_all(commands).await?;
        self.keeper.shared.lock().answered();
        Ok(replies)
    }

    /// Reports a reply that is an error.
    fn complain(&self, reply: &Value, to: &'static str) {
        match reply {
            Value::Error(error) => {
                let error = super::resp::shown(error).to_string();
                self.keeper.shared.fail(&LinkError::Refused(error));
            }
            Value::List(_) | Value::Text(_) => {}
            _ => self.keeper.shared.fail(&LinkError::Reply(to)),
        }
    }

    /// Returns the time until the next turn: up to a third of the lease, so that nodes do not come all at once.
    fn pause(&self) -> Duration {
        let third = self.names.lease / TURNS as u32;
        third - third.mul_f64((self.random.hash_one(self.turn) % 1024) as f64 / 8192.0)
    }

    fn hash(&self, key: &StreamKey) -> u64 {
        self.random.hash_one(key) % TURNS
    }
}
