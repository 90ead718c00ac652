//! Test kit: starts the built host as a process and drives it from outside with real encoders and players, and with
//! clients of its own where a test controls every byte.
//!
//! The kit shares no code with the host: its RTMP, FLV, HTTP and WebSocket readers are written from the specifications
//! a second time, so that one misreading cannot hide another. Its functions panic where the test would fail anyway.
//!
//! | module | content |
//! |---|---|
//! | [`asking`] | asking for a stream over any protocol, and the answer |
//! | [`host`] | the host process, its addresses, log, memory and CPU time |
//! | [`facts`], [`metrics`] | facts that the host's API reports, and its metrics |
//! | [`clip`], [`encoder`] | short files to publish, and the encoders that publish them |
//! | [`rtmp`], [`http`], [`websocket`], [`socket`] | clients on plain sockets |
//! | [`http2`], [`floods`] | frames that no well-behaved client sends, and what attackers repeat |
//! | [`tls`] | certificates, and a TLS client |
//! | [`secrets`] | the secrets of tests, which no output of a host may show |
//! | [`token`], [`key_server`] | tokens and links, made by openssl, and a server of key sets |
//! | [`hooks`] | a server of HTTP hooks |
//! | [`publisher`] | a publisher that is fed tag by tag, and numbered synthetic media |
//! | [`origin`] | servers that an edge pulls from, which misbehave |
//! | [`capture`] | a viewer that records FLV |
//! | [`neighbour`] | a healthy stream whose viewers must get every frame |
//! | [`fetch`] | a viewer that records any format as bytes |
//! | [`proxy`] | nginx, Caddy and HAProxy in front of the host |
//! | [`prometheus`] | Prometheus, which scrapes the host |
//! | [`redis`] | Redis as the directory of a cluster, and entries of it, also forged ones |
//! | [`flv`], [`audio`], [`ts`] | readers of the served formats |
//! | [`compare`], [`times`], [`decode`] | comparing, timing and decoding what was served |
//! | [`browser`], [`player`] | players in headless Chromium; mpv and VLC |
//! | [`modules`], [`module_dir`] | modules that are built for tests, and module directories that tests may change |
//! | [`tool`], [`scratch`], [`wait`], [`random`] | external programs, temporary directories, waiting for facts, numbers from a seed |

pub mod asking;
pub mod audio;
pub mod browser;
pub mod capture;
pub mod clip;
pub mod compare;
pub mod decode;
pub mod encoder;
pub mod facts;
pub mod fetch;
pub mod floods;
pub mod flv;
pub mod hooks;
pub mod host;
pub mod http;
pub mod http2;
pub mod key_server;
pub mod metrics;
pub mod module_dir;
pub mod modules;
pub mod neighbour;
pub mod origin;
pub mod player;
pub mod prometheus;
pub mod proxy;
pub mod publisher;
pub mod random;
pub mod redis;
pub mod rtmp;
pub mod scratch;
pub mod secrets;
pub mod socket;
pub mod times;
pub mod tls;
pub mod token;
pub mod tool;
pub mod ts;
pub mod wait;
pub mod websocket;
