//! Scenes of a hub: tasks that wait for a stream, and publishers that come, leave and take over.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use shuttle::future::block_on;
use shuttle::thread;

use super::check;
use crate::budget::Account;
use crate::conf::{Config, Vhost};
use crate::media::{Millis, Tag, TagKind};
use crate::stream::{Hub, Publisher, StreamKey};

fn vhost(config: &str) -> Arc<Vhost> {
    Config::parse(config, "remuxd.toml").unwrap().vhosts[0].clone()
}

fn key(stream: &str) -> StreamKey {
    StreamKey::new("a", "live", stream)
}

fn publish(hub: &Arc<Hub>, vhost: &Arc<Vhost>, stream: &str) -> Publisher {
    hub.publish(key(stream), vhost, Account::unlimited()).unwrap().0
}

#[test]
fn who_waits_for_a_stream_gets_it() {
    let vhost = vhost("[vhost.a]\n");
    check(move || {
        let hub = Hub::new();
        let waits = ["x", "x", "y"].map(|stream| {
            let hub = hub.clone();
            thread::spawn(move || {
                // One that waits and gives up.
                let mut hasty = Box::pin(hub.wait_for(key(stream)));
                block_on(poll_fn(|cx| Poll::Ready(drop(hasty.as_mut().poll(cx)))));
                let wait = hub.wait_for(key(stream));
                drop(hasty);
                assert_eq!(*block_on(wait).unwrap().key(), key(stream));
            })
        });
        let publishers = ["x", "y"].map(|stream| {
            let (hub, vhost) = (hub.clone(), vhost.clone());
            thread::spawn(move || publish(&hub, &vhost, stream))
        });
        let publishers = publishers.map(|publisher| publisher.join().unwrap());
        waits.into_iter().for_each(|wait| wait.join().unwrap());
        assert_eq!((hub.waiting(), hub.streams().len()), (0, publishers.len()));
    });
}

#[test]
fn a_publisher_is_never_on_a_stream_that_the_hub_has_dropped() {
    let vhost = vhost("[vhost.a]\n");
    check(move || {
        let hub = Hub::new();
        let first = publish(&hub, &vhost, "x");
        let left = first.leave().unwrap();
        let expiry = thread::spawn({
            let (hub, stream) = (hub.clone(), first.stream().clone());
            move || hub.expire(&stream, left)
        });
        let settled = thread::spawn({
            let hub = hub.clone();
            move || block_on(hub.settle(key("x")))
        });
        let second = publish(&hub, &vhost, "x");
        expiry.join().unwrap();
        let (found, settled) = (hub.find(&key("x")).unwrap(), settled.join().unwrap());
        assert!(Arc::ptr_eq(&found, second.stream()) && found.is_live() && !found.tags().is_ended());
        let expired = !Arc::ptr_eq(first.stream(), second.stream());
        assert_eq!(expired, first.stream().tags().is_ended());
        assert!(settled || expired, "only a stream that ended settles without a publisher");
    });
}

#[test]
fn tags_of_two_publishers_do_not_mix() {
    let vhost = vhost("[vhost.a.publish]\npublish_conflict = \"replace\"\n");
    check(move || {
        let hub = Hub::new();
        let publishers = ["1", "2"].map(|name| {
            let (hub, vhost) = (hub.clone(), vhost.clone());
            thread::spawn(move || {
                let publisher = publish(&hub, &vhost, "x");
                let body = Bytes::from([b"\x17\x01\0\0\0", name.as_bytes()].concat());
                let push =
                    |at| publisher.push(Tag::new(TagKind::VIDEO, Millis(at), body.clone()), Millis(at));
                let pushed = (0..3).map(|at| push(at * 40)).collect::<Vec<_>>();
                (publisher, pushed)
            })
        });
        let mut tags = block_on(hub.wait_for(key("x"))).unwrap().play();
        let ends = publishers.map(|publisher| publisher.join().unwrap());
        let (replaced, newest) = match ends {
            [(one, pushed), (other, _)] if one.id() < other.id() => ((one, pushed), other),
            [(other, _), (one, pushed)] => ((one, pushed), other),
        };
        // The one that was replaced learns it, by its push and by its wait.
        block_on(poll_fn(|cx| replaced.0.poll_replaced(cx)));
        assert!(replaced.1.is_sorted_by(|before, after| before >= after), "{:?}", replaced.1);
        drop(newest);
        hub.end_all();
        let mut read = Vec::new();
        while let Some(batch) = block_on(poll_fn(|cx| tags.poll_read(cx))) {
            read.extend(batch.iter().map(|tag| tag.payload[5]));
        }
        let turns = read.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(turns <= 1, "{:?}", String::from_utf8_lossy(&read));
    });
}
