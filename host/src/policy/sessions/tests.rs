use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake};

use super::*;
use crate::conf::{Config, Current};
use crate::policy::request::tests::request;
use crate::policy::{Admission, End};

fn sessions() -> Arc<Sessions> {
    let config = Config::read_text("[proxy]\ntrusted = [\"10.0.0.0/8\"]", "text").0;
    Sessions::new(Current::new(config))
}

/// Limits of the host and of the vhost `v`.
fn limits(host: &str, vhost: &str) -> Limits {
    let text = format!("[limits]\n{host}\n[vhost.v.limits]\n{vhost}");
    let config = Config::parse(&text, "text").unwrap();
    Limits { scopes: [config.limits.sessions, config.vhosts[0].limits], replaces: false }
}

fn of(action: Action, vhost: &str, stream: &str, address: &str) -> Request {
    let mut request = request(action, vhost, "live", stream);
    request.address = address.parse().unwrap();
    request
}

#[test]
fn a_session_is_listed_until_its_entry_is_dropped() {
    let sessions = sessions();
    let enter = |stream| {
        sessions.enter(&limits("", ""), &request(Action::Play, "v", "live", stream), None, None).unwrap()
    };
    let names = || sessions.list().iter().map(|one| one.key().to_string()).collect::<Vec<_>>();
    let (one, two) = (enter("one"), enter("two"));
    assert_eq!(names(), ["v/live/one", "v/live/two"]);
    // A handle outlives the entry.
    let session = one.session.clone();
    session.add_bytes(7);
    drop(one);
    assert_eq!((names(), session.bytes()), (vec!["v/live/two".to_owned()], 7));
    drop(two);
    assert!(names().is_empty());
}

#[test]
fn a_record_has_the_public_name_and_the_subject() {
    let key = StreamKey::new("v", "live", "film");
    let request = request(Action::Publish, "v", "live", "secret");
    let entry = sessions().enter(&limits("", ""), &request, Some(key.clone()), Some("alice")).unwrap();
    assert_eq!((entry.session.key(), entry.session.subject()), (&key, "alice"));
    assert!(!format!("{entry:?}").contains("secret"));
}

#[test]
fn texts_are_cut_between_characters() {
    for (text, len) in [
        (String::new(), 0),
        ("a".repeat(256), 256),
        ("a".repeat(257), 256),
        (format!("{}\u{e9}", "a".repeat(255)), 255),
        (format!("{}\u{e9}", "a".repeat(254)), 256),
    ] {
        let mut request = request(Action::Play, "v", "live", "film");
        (request.user_agent, request.page_url) = (text.clone(), text.clone());
        let entry = sessions().enter(&limits("", ""), &request, None, None).unwrap();
        assert_eq!(entry.session.user_agent(), &text[..len]);
        assert_eq!(entry.session.page_url(), &text[..len]);
    }
}

/// With the counters of an `Arc`, and without what it shares with the request.
#[test]
fn a_record_is_small() {
    let size = size_of::<Session>() + 2 * size_of::<usize>() + size_of::<Entry>();
    assert!(size <= 256, "{size} bytes");
}

/// Each row: limits of host and vhost, sessions that are there, one more, and the key that refuses it.
#[test]
fn limits_hold_for_streams_vhosts_the_host_and_addresses() {
    let play = |vhost, stream, address| of(Action::Play, vhost, stream, address);
    let publish = |vhost, stream, address| of(Action::Publish, vhost, stream, address);
    let (one, two) = ("192.0.2.1", "192.0.2.2");
    type Refused = Option<(bool, &'static str)>;
    type Row = (&'static str, &'static str, Vec<Request>, Request, Refused);
    let rows: Vec<Row> = vec![
        ("", "", vec![play("v", "a", one), play("v", "a", one)], play("v", "a", one), None),
        (
            "max_viewers = 1",
            "",
            vec![play("w", "a", one)],
            play("v", "b", two),
            Some((false, "limits.max_viewers")),
        ),
        ("max_viewers = 1", "", vec![publish("v", "a", one)], play("v", "a", one), None),
        ("", "max_viewers = 1", vec![play("w", "a", one)], play("v", "a", one), None),
        (
            "",
            "max_viewers = 1",
            vec![play("v", "a", one)],
            play("v", "b", two),
            Some((false, "vhost.limits.max_viewers")),
        ),
        (
            "max_viewers = 2",
            "max_viewers = 1",
            vec![play("v", "a", one)],
            play("v", "b", two),
            Some((false, "vhost.limits.max_viewers")),
        ),
        (
            "",
            "max_viewers_per_stream = 1",
            vec![play("v", "a", one)],
            play("v", "a", two),
            Some((false, "vhost.limits.max_viewers_per_stream")),
        ),
        ("", "max_viewers_per_stream = 1", vec![play("v", "a", one)], play("v", "b", one), None),
        (
            "max_viewers_per_stream = 1",
            "",
            vec![play("v", "a", one)],
            play("v", "a", two),
            Some((false, "limits.max_viewers_per_stream")),
        ),
        (
            "max_viewers_per_address = 1",
            "",
            vec![play("w", "a", one)],
            play("v", "b", one),
            Some((true, "limits.max_viewers_per_address")),
        ),
        ("max_viewers_per_address = 1", "", vec![play("w", "a", one)], play("v", "b", two), None),
        (
            "max_viewers_per_address = 1",
            "",
            vec![play("v", "a", "2001:db8::1")],
            play("v", "b", "2001:db8::2"),
            Some((true, "limits.max_viewers_per_address")),
        ),
        (
            "max_viewers_per_address = 1",
            "",
            vec![play("v", "a", "10.1.1.1")],
            play("v", "b", "10.1.1.1"),
            None,
        ),
        ("", "max_viewers_per_address = 1", vec![play("w", "a", one)], play("v", "b", one), None),
        (
            "",
            "max_viewers_per_address = 1",
            vec![play("v", "a", one)],
            play("v", "b", one),
            Some((true, "vhost.limits.max_viewers_per_address")),
        ),
        // The address is told first.
        (
            "max_viewers = 1",
            "max_viewers_per_address = 1",
            vec![play("v", "a", one)],
            play("v", "b", one),
            Some((true, "vhost.limits.max_viewers_per_address")),
        ),
        (
            "max_publishers = 1",
            "",
            vec![publish("w", "a", one)],
            publish("v", "b", two),
            Some((false, "limits.max_publishers")),
        ),
        ("max_publishers = 1", "", vec![play("v", "a", one)], publish("v", "a", one), None),
        (
            "",
            "max_publishers = 1",
            vec![publish("v", "a", one)],
            publish("v", "b", two),
            Some((false, "vhost.limits.max_publishers")),
        ),
        (
            "max_publishers_per_address = 1",
            "",
            vec![publish("w", "a", one)],
            publish("v", "b", one),
            Some((true, "limits.max_publishers_per_address")),
        ),
        ("max_publishers_per_address = 1", "", vec![publish("w", "a", one)], publish("v", "b", two), None),
    ];
    for (host, vhost, there, newcomer, refused) in rows {
        let (sessions, limits) = (sessions(), limits(host, vhost));
        let enter = |request| sessions.enter(&limits, request, None, None);
        let mut entries: Vec<_> = there.iter().map(|request| enter(request).unwrap()).collect();
        let result = enter(&newcomer).map(drop);
        let found = match result {
            Err(Refusal::Limit(limit)) => Some((limit.of_address, format!("{}.{}", limit.table, limit.key))),
            other => {
                assert_eq!(other, Ok(()));
                None
            }
        };
        assert_eq!(found, refused.map(|(own, key)| (own, key.to_owned())), "{host} {vhost}");
        // A session that leaves makes room, and nothing of those that left is kept.
        entries.pop();
        assert!(enter(&newcomer).is_ok(), "{host} {vhost}");
        entries.clear();
        assert!(sessions.table.lock().counts.is_empty(), "{host} {vhost}");
    }
}

#[test]
fn a_publisher_is_not_refused_because_of_the_one_that_it_replaces() {
    let rows = [
        ("max_publishers = 1", "192.0.2.1", "a", true),
        ("max_publishers = 1", "192.0.2.2", "a", true),
        ("max_publishers = 1", "192.0.2.2", "b", false),
        ("max_publishers_per_address = 1", "192.0.2.1", "a", true),
        ("max_publishers_per_address = 1", "192.0.2.1", "b", false),
    ];
    for (host, address, stream, admitted) in rows {
        let sessions = sessions();
        let limits = Limits { replaces: true, ..limits(host, "") };
        let enter = |request: &Request| sessions.enter(&limits, request, None, None);
        let first = enter(&of(Action::Publish, "v", "a", "192.0.2.1")).unwrap();
        let second = enter(&of(Action::Publish, "v", stream, address));
        assert_eq!(second.is_ok(), admitted, "{host} {address} {stream}");
        if let Ok(second) = second {
            // The second leaves before the first, and nobody is counted twice.
            drop(second);
            assert!(enter(&of(Action::Publish, "v", "b", "192.0.2.1")).is_err());
        }
        drop(first);
        assert!(sessions.table.lock().counts.is_empty());
    }
}

#[test]
fn no_number_of_requests_at_once_exceeds_a_limit() {
    let sessions = sessions();
    let limits = limits("max_viewers = 100", "max_viewers_per_address = 90");
    let start = std::sync::Barrier::new(8);
    let admitted = std::thread::scope(|scope| {
        let joiner = |number: usize| {
            let (sessions, limits, start) = (&sessions, &limits, &start);
            let address = ["192.0.2.1", "192.0.2.2"][number % 2];
            move || {
                start.wait();
                let enter = || sessions.enter(limits, &of(Action::Play, "v", "a", address), None, None);
                (0..125).filter_map(|_| enter().ok()).collect::<Vec<_>>()
            }
        };
        let threads: Vec<_> = (0..8).map(|number| scope.spawn(joiner(number))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!((admitted.len(), sessions.list().len()), (100, 100));
    drop(admitted);
    assert!(sessions.table.lock().counts.is_empty());
}

/// Viewers of two addresses get 1 and 3 Mbit/s for 10 s.
#[test]
fn newcomers_are_refused_while_viewers_are_sent_too_much() {
    let (one, two) = ("192.0.2.1", "192.0.2.2");
    let sessions = sessions();
    // Time passes only as the test says.
    let mut now = Instant::now();
    let enter = |action, address| {
        let request = Request { arrived: now, ..of(action, "v", "a", address) };
        sessions.enter(&limits("", ""), &request, None, None).unwrap()
    };
    let viewers = [enter(Action::Play, one), enter(Action::Play, two)];
    let publisher = enter(Action::Publish, one);
    let mut pass = |seconds: u64, bytes: [usize; 2]| {
        viewers.iter().zip(bytes).for_each(|(viewer, bytes)| viewer.session.add_bytes(bytes));
        publisher.session.add_bytes(1 << 30);
        now += Duration::from_secs(seconds);
        Sessions::measure(&mut sessions.table.lock(), now);
    };
    let refused = |host: &str, address: &str| {
        // Measured again not before 5 s have passed, which they have not.
        let entered = sessions.enter(&limits(host, ""), &of(Action::Play, "v", "a", address), None, None);
        match entered.map(drop) {
            Err(Refusal::Limit(limit)) => Some(limit.key),
            other => {
                assert_eq!(other, Ok(()));
                None
            }
        }
    };
    pass(10, [1_250_000, 3_750_000]);
    assert_eq!(refused("max_bitrate = \"3.9M\"", one), Some("max_bitrate"));
    assert_eq!(refused("max_bitrate = \"4.1M\"", one), None);
    assert_eq!(refused("max_bitrate_per_address = \"2M\"", one), None);
    assert_eq!(refused("max_bitrate_per_address = \"2M\"", two), Some("max_bitrate_per_address"));
    // What came in less than 5 s counts as if it took 5 s.
    pass(5, [0, 0]);
    assert_eq!(refused("max_bitrate = 1000", one), None);
}

#[test]
fn a_ban_ends_the_sessions_that_it_covers_and_refuses_others() {
    let rows = [
        ("address", "192.0.2.0/24", [true, true, false]),
        ("subject", "alice", [true, false, false]),
        ("stream", "v/live/film", [true, true, true]),
        ("stream", "live/film", [false, false, false]),
    ];
    for (kind, value, covered) in rows {
        let (sessions, limits) = (sessions(), limits("", ""));
        let clients = [
            (Action::Play, "192.0.2.1", Some("alice")),
            (Action::Publish, "192.0.2.2", None),
            (Action::Play, "198.51.100.1", Some("bob")),
        ];
        let enter = |(action, address, subject): (Action, &str, Option<&str>)| {
            sessions.enter(&limits, &of(action, "v", "film", address), None, subject)
        };
        let entries = clients.map(|client| enter(client).unwrap());
        let target = BanTarget::parse(kind, value).unwrap();
        let count = covered.iter().filter(|covered| **covered).count();
        assert_eq!(sessions.ban(&target, Duration::from_secs(60)), Ok(count), "{kind} {value}");
        for ((entry, client), covered) in entries.iter().zip(clients).zip(covered) {
            assert_eq!(entry.session.order(), covered.then_some(Order::Ban), "{kind} {value} {client:?}");
            assert_eq!(enter(client).is_err(), covered, "{kind} {value} {client:?}");
        }
        assert!(sessions.unban(&target) && !sessions.unban(&target));
        assert!(clients.into_iter().all(|client| enter(client).is_ok()));
    }
}

#[test]
fn a_kick_ends_one_session_and_wakes_its_owner() {
    let sessions = sessions();
    let enter = || sessions.enter(&limits("", ""), &request(Action::Play, "v", "live", "film"), None, None);
    let (one, other) = (enter().unwrap(), enter().unwrap());
    let mut admission = Admission::new(one, None, None);
    let waker = Arc::new(CountingWaker::default());
    let poll =
        |admission: &mut Admission| admission.poll_end(&mut Context::from_waker(&waker.clone().into()));
    assert_eq!(poll(&mut admission), Poll::Pending);
    assert_eq!(poll(&mut admission), Poll::Pending);
    assert_eq!(waker.0.load(Ordering::Relaxed), 0);
    assert!(sessions.kick(admission.id()));
    assert_eq!((waker.0.load(Ordering::Relaxed), other.session.order()), (1, None));
    assert_eq!(poll(&mut admission), Poll::Ready(End::Order(Order::Kick)));
    let id = admission.id().to_string().parse().unwrap();
    drop(admission);
    assert!(!sessions.kick(id), "it is gone");
}

#[derive(Default)]
struct CountingWaker(AtomicU32);

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
