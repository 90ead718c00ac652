use super::*;

#[test]
fn rejects_with_a_status() {
    let redirect = Rejection::Redirect { url: "rtmp://other/live/key".into() };
    #[rustfmt::skip]
    let rows = [
        (Rejection::Busy, ["NetConnection.Connect.Rejected", "NetStream.Publish.BadName", "NetStream.Play.Failed"]),
        (Rejection::NotFound, ["NetConnection.Connect.Rejected", "NetStream.Publish.BadName", "NetStream.Play.StreamNotFound"]),
        (Rejection::Denied, ["NetConnection.Connect.Rejected", "NetStream.Publish.Denied", "NetStream.Play.Failed"]),
        (Rejection::Unreachable, ["NetConnection.Connect.Rejected", "NetStream.Publish.Denied", "NetStream.Play.Failed"]),
        (Rejection::Moved, ["NetConnection.Connect.Rejected", "NetStream.Publish.BadName", "NetStream.Play.Failed"]),
        (Rejection::NoMemory, ["NetConnection.Connect.Rejected", "NetStream.Publish.Denied", "NetStream.Play.Failed"]),
        (redirect, ["NetConnection.Connect.Rejected"; 3]),
    ];
    for (rejection, [on_connect, on_publish, on_play]) in rows {
        let mut owner = Owner::new();
        owner.accepts = false;
        owner.feed(&bytes_of(&[connect("rtmp://ip/live", &[])])).unwrap();
        owner.session.reject_connect(&rejection);
        owner.drain();
        assert_eq!(owner.sent, [format!("0 _error 1 {on_connect}")]);
        assert!(owner.session.is_over());
        owner.feed(b"whatever").unwrap();

        for (command, expected) in [("publish", on_publish), ("play", on_play)] {
            let mut owner = Owner::new();
            owner.accepts = false;
            let start = [connect("rtmp://ip/live", &[])];
            owner.feed(&bytes_of(&start)).unwrap();
            owner.session.accept_connect();
            let more =
                [start[0].clone(), cmd(0, "createStream", 2, vec![]), cmd(1, command, 0, vec!["key".into()])];
            owner.feed(&bytes_of(&more)[bytes_of(&start).len()..]).unwrap();
            owner.sent.clear();
            owner.session.reject_publish(1, &rejection);
            owner.session.reject_play(1, &rejection);
            owner.drain();
            assert_eq!(owner.sent, [format!("1 onStatus 0 {expected}")]);
        }
    }
}

#[test]
fn rejects_invalid_names() {
    let script = [
        connect("rtmp://ip/live", &[]),
        cmd(0, "createStream", 2, vec![]),
        cmd(1, "publish", 0, vec!["".into()]),
        cmd(1, "play", 0, vec!["..".into()]),
        cmd(1, "publish", 0, vec![]),
    ];
    let owner = Owner::run(&script, usize::MAX);
    assert_eq!(owner.events, ["connect"]);
    let rejections = [
        "1 onStatus 0 NetStream.Publish.BadName",
        "1 onStatus 0 NetStream.Play.StreamNotFound",
        "1 onStatus 0 NetStream.Publish.BadName",
    ];
    assert_eq!(owner.sent[ACCEPTED.len() + 1..], rejections);
}
