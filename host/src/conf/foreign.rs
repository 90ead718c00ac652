//! Keys and tables of other servers, and what they are called here.

/// The replacement for a key of another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// Another name or table.
    Here(&'static str),
    /// There is none.
    Unsupported,
    /// There is none, because the host always does what the key enables.
    Always(&'static str),
}

use Foreign::{Always, Here, Unsupported};

/// Keys of SRS, nginx-rtmp, nginx-http-flv-module and ZLMediaKit that have another name here or none. Those of the same name in
/// another table are not listed: the reader of the file finds them itself.
const KEYS: &[(&str, Foreign)] = &[
    // SRS.
    ("mw_latency", Here("`merge_write` in [vhost.\"NAME\".play]")),
    ("mw_msgs", Here("`merge_write` in [vhost.\"NAME\".play]")),
    ("grace_final_wait", Here("`shutdown_grace` in [shutdown]")),
    ("srs_log_level", Here("`level` in [log]")),
    ("srs_log_level_v2", Here("`level` in [log]")),
    ("srs_log_tank", Here("standard error, which a supervisor writes to a file")),
    ("srs_log_file", Here("standard error, which a supervisor writes to a file")),
    ("ff_log_dir", Unsupported),
    ("ff_log_level", Unsupported),
    ("daemon", Here("a supervisor, as in conf/remuxd.service")),
    ("pid", Here("a supervisor, as in conf/remuxd.service")),
    ("utc_time", Always("times in the log are UTC")),
    ("work_dir", Unsupported),
    ("inotify_auto_reload", Here("`watch` in [modules]")),
    ("tcp_nodelay", Always("TCP_NODELAY is set")),
    ("mix_correct", Always("timestamps are corrected")),
    ("time_jitter", Always("timestamps are corrected")),
    ("send_min_interval", Unsupported),
    ("atc", Unsupported),
    ("atc_auto", Unsupported),
    ("mr", Always("reads are merged")),
    ("mr_latency", Always("reads are merged")),
    ("parse_sps", Unsupported),
    ("in_ack_size", Here("`window_ack_size` in [rtmp]")),
    ("out_ack_size", Here("`window_ack_size` in [rtmp]")),
    ("dash", Unsupported),
    ("hls", Unsupported),
    ("hds", Unsupported),
    ("dvr", Unsupported),
    ("ingest", Unsupported),
    ("transcode", Unsupported),
    ("exec", Unsupported),
    ("bandcheck", Unsupported),
    ("rtc", Unsupported),
    ("rtc_server", Unsupported),
    ("srt", Unsupported),
    ("srt_server", Unsupported),
    ("rtsp_server", Unsupported),
    ("stream_caster", Unsupported),
    ("heartbeat", Unsupported),
    ("stats", Unsupported),
    ("tracer", Unsupported),
    ("coworkers", Unsupported),
    ("origin_cluster", Unsupported),
    ("edge_token_traverse", Here("`token_traverse` in [vhost.\"NAME\".cluster]")),
    // nginx-rtmp and nginx-http-flv-module.
    ("application", Here("[vhost.\"NAME\"]: any app is served")),
    ("flv_live", Here("[[vhost.\"NAME\".http_remux]]")),
    ("http-flv", Here("[[vhost.\"NAME\".http_remux]]")),
    ("drop_idle_publisher", Here("`normal_timeout` in [vhost.\"NAME\".publish]")),
    ("idle_streams", Here("`republish_wait` in [vhost.\"NAME\".publish]")),
    ("wait_key", Always("viewers start at a keyframe")),
    ("wait_video", Always("viewers start at a keyframe")),
    ("push", Here("`forward` in [vhost.\"NAME\"]")),
    ("pull", Here("`origin` in [vhost.\"NAME\".cluster]")),
    ("record", Unsupported),
    ("notify_method", Unsupported),
    // ZLMediaKit.
    ("mergeWriteMS", Here("`merge_write` in [vhost.\"NAME\".play]")),
    ("keepAliveSecond", Here("`handshake_timeout` in [limits]")),
    ("handshakeSecond", Here("`handshake_timeout` in [limits]")),
    ("apiDebug", Here("`level` in [log]")),
];

/// Returns the replacement for a key of another server.
pub(super) fn foreign(key: &str) -> Option<Foreign> {
    KEYS.iter().find(|(name, _)| *name == key).map(|(_, foreign)| *foreign)
}

impl Foreign {
    /// Returns advice on what to write instead.
    pub fn help(self) -> String {
        match self {
            Here(name) => format!("here it is {name}"),
            Unsupported => "not supported".to_owned(),
            Always(what) => format!("not needed: {what} always"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_listed_once() {
        for (index, (key, _)) in KEYS.iter().enumerate() {
            assert!(KEYS[..index].iter().all(|(other, _)| other != key), "{key}");
        }
    }
}
