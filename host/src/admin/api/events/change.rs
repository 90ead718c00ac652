//! Changes: events from what was observed and what is now.

use bytes::Bytes;
use serde_json::json;

use super::frame::frame;
use super::observed::{Observed, ObservedModule, ObservedStream};

/// Streams whose numbers are sent each second, by name; others only with their changes.
const MAX_STREAMS: usize = 1000;

/// Returns the frames of what has changed, and of the numbers now.
pub(super) fn frames(before: &Observed, now: &Observed) -> Vec<Bytes> {
    let mut frames = Vec::new();
    for (name, stream) in &before.streams {
        let next = now.streams.get(name);
        if stream.publisher.is_some() && next.is_none_or(|next| next.publisher != stream.publisher) {
            frames.push(frame("unpublished", &json!({ "stream": name })));
        }
    }
    let none = ObservedStream::default();
    for (name, stream) in &now.streams {
        let previous = before.streams.get(name).unwrap_or(&none);
        let is_new = stream.publisher.is_some() && stream.publisher != previous.publisher;
        if is_new {
            frames.push(frame("published", &json!({ "stream": name })));
        }
        if stream.media != previous.media && stream.publisher.is_some() {
            frames.push(frame("codecs", &json!({ "stream": name, "media": stream.media })));
        }
    }
    for (key, module) in &now.modules {
        let (name, generation) = key;
        let ObservedModule { version, state, reason } = module;
        let facts = json!({
            "module": name, "generation": generation, "version": version, "state": state, "reason": reason,
        });
        match before.modules.get(key) {
            None => frames.push(frame("module-loaded", &facts)),
            Some(previous) if previous.state != *state => frames.push(frame("module-state", &facts)),
            Some(_) => {}
        }
    }
    frames.extend(now.faults.iter().map(|fault| frame("module-fault", fault)));
    frames.extend(now.reloads.iter().map(|reload| frame("reload", reload)));
    frames.push(frame("numbers", &numbers(now)));
    frames
}

/// Returns the numbers that change all the time.
fn numbers(now: &Observed) -> serde_json::Value {
    let streams = now.streams.iter().take(MAX_STREAMS).map(|(name, stream)| {
        json!({
            "stream": name,
            "viewers": stream.viewers,
            "kilobits_per_second": stream.kilobits_per_second,
        })
    });
    let viewers: usize = now.streams.values().map(|stream| stream.viewers).sum();
    json!({ "total": now.streams.len(), "viewers": viewers, "streams": streams.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::super::observed::Media;
    use super::*;

    fn stream(publisher: Option<&str>, video: &str) -> ObservedStream {
        let media = Media { video: video.to_owned(), ..Media::default() };
        ObservedStream {
            publisher: publisher.map(str::to_owned),
            media,
            viewers: 2,
            kilobits_per_second: 1.5,
        }
    }

    fn observed(streams: &[(&str, ObservedStream)], states: &[(u64, &str)]) -> Observed {
        let module =
            |state: &str| ObservedModule { version: "1".to_owned(), state: state.to_owned(), reason: None };
        Observed {
            streams: streams.iter().map(|(name, stream)| ((*name).to_owned(), stream.clone())).collect(),
            modules: states
                .iter()
                .map(|(number, state)| (("m".to_owned(), *number), module(state)))
                .collect(),
            ..Observed::default()
        }
    }

    /// Returns the names of the events, with the streams and generations that they name.
    fn events(before: &Observed, now: &Observed) -> Vec<String> {
        let shown = |frame: &Bytes| {
            let text = str::from_utf8(frame).unwrap();
            let (event, data) = text.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
            let data: serde_json::Value = serde_json::from_str(data.strip_suffix("\n\n").unwrap()).unwrap();
            let what = data["stream"].as_str().map(str::to_owned);
            let what = what.or_else(|| Some(format!("{} {}", data["generation"], data["state"].as_str()?)));
            format!("{event} {}", what.unwrap_or_default())
        };
        let mut events: Vec<_> = frames(before, now).iter().map(shown).collect();
        assert_eq!(events.pop().as_deref(), Some("numbers "));
        events
    }

    #[test]
    fn what_has_changed_is_told() {
        let (a, b) = (stream(Some("1"), "avc1"), stream(Some("2"), "avc1"));
        let rows = [
            (vec![], vec![], &[][..]),
            (vec![], vec![("s", a.clone())], &["published s", "codecs s"]),
            (vec![("s", a.clone())], vec![("s", a.clone())], &[]),
            (vec![("s", a.clone())], vec![], &["unpublished s"]),
            (vec![("s", a.clone())], vec![("s", stream(None, ""))], &["unpublished s"]),
            // Another publisher within a second.
            (vec![("s", a.clone())], vec![("s", b)], &["unpublished s", "published s"]),
            (vec![("s", a.clone())], vec![("s", stream(Some("1"), "hvc1"))], &["codecs s"]),
        ];
        for (before, now, expected) in rows {
            assert_eq!(events(&observed(&before, &[]), &observed(&now, &[])), expected, "{now:?}");
        }
        let before = observed(&[], &[(1, "current")]);
        let now = observed(&[], &[(1, "rolled-back"), (2, "current")]);
        assert_eq!(events(&before, &now), ["module-state 1 rolled-back", "module-loaded 2 current"]);
    }

    #[test]
    fn many_streams_have_bounded_numbers() {
        let many: Vec<_> = (0..MAX_STREAMS + 1).map(|number| format!("s{number}")).collect();
        let many: Vec<_> = many.iter().map(|name| (&**name, stream(Some("1"), ""))).collect();
        let numbers = numbers(&observed(&many, &[]));
        assert_eq!(numbers["streams"].as_array().unwrap().len(), MAX_STREAMS);
        assert_eq!((&numbers["total"], &numbers["viewers"]), (&1001.into(), &2002.into()));
    }
}
