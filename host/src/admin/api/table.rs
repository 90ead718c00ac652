//! The table of routes.

use std::sync::LazyLock;

use hyper::{Method, StatusCode};

use super::login::{self, LoggedIn, LoggedOut};
use super::needs::Needs;
use super::openapi;
use super::paging::Page;
use super::reply::{EVENTS, Refused, Reply, TEXT};
use super::route::{Call, Kind, Parameter, Route, Shape, json, reply, srs, task};
use super::state::Api;
use super::{pages, srs as shapes};
use crate::admin::cluster::ClusterStatus;
use crate::admin::guard::Credentials;
use crate::admin::report::ReloadReport;

/// Returns all routes.
pub(super) fn routes() -> &'static [Route] {
    static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(|| {
        let mut routes = ours();
        routes.extend(srs_routes());
        routes
    });
    &ROUTES
}

/// The parameters of a page of a list.
const PAGE: [Parameter; 2] = [
    Parameter {
        name: "start",
        text: "number of entries before the page",
        kind: Kind::Number { min: 0, max: u32::MAX as u64, required: false },
    },
    Parameter {
        name: "count",
        text: "largest number of entries in the page",
        kind: Kind::Number { min: 1, max: Page::MAX_COUNT as u64, required: false },
    },
];

/// The same, as SRS reads them.
const SRS_PAGE: [Parameter; 2] = [
    Parameter { name: "start", text: "number of entries before the page, default 0", kind: Kind::Anything },
    Parameter {
        name: "count",
        text: "largest number of entries in the page, default 10",
        kind: Kind::Anything,
    },
];

const BAN_KIND: Parameter =
    Parameter { name: "kind", text: "what is banned", kind: Kind::Choice(&["address", "subject", "stream"]) };
const BAN_VALUE: Parameter =
    Parameter { name: "value", text: "the address, subject, or APP/STREAM", kind: Kind::Text };
const BAN_SECONDS: Parameter = Parameter {
    name: "seconds",
    text: "how long, at most 366 days",
    kind: Kind::Number { min: 1, max: 31_622_400, required: true },
};

/// The pages of our own.
fn ours() -> Vec<Route> {
    use Needs::{Admission, Nothing, Operator, User};
    let (get, post, delete) = (Method::GET, Method::POST, Method::DELETE);
    let (text, metrics) = (Shape::text(TEXT), Shape::text(pages::METRICS));
    vec![
        reply(get.clone(), "/healthz", Nothing, "Answers as long as the host runs.", text, probe),
        reply(get.clone(), "/readyz", Nothing, "Answers as long as the host should get new clients.", text, probe)
            .may_be(&[StatusCode::SERVICE_UNAVAILABLE]),
        reply(get.clone(), "/metrics", Admission, "Metrics in the text format of Prometheus.", metrics, pages::metrics),
        json(
            get.clone(),
            "/api/v1/modules",
            Admission,
            "Every mapped generation of every module.",
            |api, _| Ok(pages::modules(api)),
        ),
        json(
            get.clone(),
            "/api/v1/memory",
            Admission,
            "Limit and use of the memory for peers, in bytes.",
            pages::memory,
        ),
        json(get.clone(), "/api/v1/reload", Admission, "The report of the last reload.", pages::last_reload)
            .may_be(&[StatusCode::NOT_FOUND]),
        task(
            post.clone(),
            "/api/v1/reload",
            Operator,
            "Reloads, or says what a reload would do.",
            Shape::json::<ReloadReport>(),
            pages::reload,
        )
        .takes(&[Parameter { name: "dry_run", text: "1: change nothing", kind: Kind::Anything }])
        .may_be(&[StatusCode::NOT_FOUND, StatusCode::CONFLICT]),
        json(get.clone(), "/api/v2/host", Admission, "The host itself, and its listeners.", pages::host),
        json(
            get.clone(),
            "/api/v2/streams",
            Admission,
            "The streams that are live or whose viewers wait for the publisher, by name; addresses for users.",
            pages::streams,
        )
        .takes(&PAGE),
        json(
            get.clone(),
            "/api/v2/pulls",
            Admission,
            "The streams that are pulled from origins, by name, and the origins that fail now.",
            pages::pulls,
        )
        .takes(&PAGE),
        json(
            get.clone(),
            "/api/v2/pushes",
            Admission,
            "The streams that are sent to other servers, by name and destination.",
            pages::pushes,
        )
        .takes(&PAGE),
        task(
            get.clone(),
            "/api/v2/cluster",
            Admission,
            "The nodes of the cluster, the streams of the directory, by name, and the state of the directory.",
            Shape::json::<ClusterStatus>(),
            pages::cluster,
        )
        .takes(&PAGE),
        json(
            get.clone(),
            "/api/v2/mounts",
            Admission,
            "Each format that each stream is mounted in, by the name of the stream.",
            pages::mounts,
        )
        .takes(&PAGE),
        json(
            get.clone(),
            "/api/v2/modules",
            Admission,
            "Every mapped generation of every module, with its state and its faults.",
            pages::module_list,
        )
        .takes(&PAGE),
        json(get.clone(), "/api/v2/faults", Admission, "The newest faults of modules, the newest first.", pages::faults)
            .takes(&PAGE),
        json(get.clone(), "/api/v2/reloads", Admission, "The newest reloads, the newest first.", pages::reloads)
            .takes(&PAGE),
        json(
            get.clone(),
            "/api/v2/certificates",
            Admission,
            "The certificates in use, with their names and the end of their validity.",
            pages::certificates,
        )
        .takes(&PAGE),
        json(get.clone(), "/api/v2/limits", Admission, "The use of what is limited.", pages::limits),
        task(
            get.clone(),
            "/api/v2/events",
            Admission,
            "What goes on, as server-sent events.",
            Shape::text(EVENTS),
            pages::events,
        )
        .may_be(&[StatusCode::SERVICE_UNAVAILABLE]),
        json(get.clone(), "/api/v2/sessions", User, "The sessions, the oldest first.", pages::sessions).takes(&PAGE),
        json(delete.clone(), "/api/v2/sessions/{id}", Operator, "Ends a session.", pages::kick)
            .may_be(&[StatusCode::NOT_FOUND]),
        json(get.clone(), "/api/v2/bans", User, "The bans, the oldest first.", pages::bans).takes(&PAGE),
        json(get.clone(), "/api/v2/session", Admission, "Who asks, and what they may do.", login::status),
        reply(
            post.clone(),
            "/api/v2/session",
            Needs::Login,
            "Logs in, with credentials in the body or in Authorization: the reply has a cookie.",
            Shape::json::<LoggedIn>(),
            login::log_in,
        )
        .reads::<Credentials>()
        .may_be(&[StatusCode::NOT_FOUND]),
        reply(
            delete.clone(),
            "/api/v2/session",
            Admission,
            "Logs out.",
            Shape::json::<LoggedOut>(),
            login::log_out,
        )
        .may_be(&[StatusCode::NOT_FOUND]),
        json(get, "/api/v2/openapi.json", Admission, "This description.", |_, _| Ok(openapi::document(routes()))),
        json(post, "/api/v2/bans", Operator, "Bans, and ends the sessions that it covers.", pages::ban)
            .takes(&[BAN_KIND, BAN_VALUE, BAN_SECONDS]),
        json(delete, "/api/v2/bans", Operator, "Lifts a ban.", pages::unban)
            .takes(&[BAN_KIND, BAN_VALUE])
            .may_be(&[StatusCode::NOT_FOUND]),
    ]
}

/// The pages with SRS's shapes.
fn srs_routes() -> Vec<Route> {
    use Needs::{Admission, Operator};
    let get = || Method::GET;
    vec![
        srs(get(), "/api", Admission, "The versions of the API.", shapes::api),
        srs(get(), "/api/v1", Admission, "The pages with SRS's shapes.", |_, _| {
            Ok(shapes::index(srs_pages()))
        }),
        srs(get(), "/api/v1/versions", Admission, "The version of the host.", shapes::versions),
        srs(get(), "/api/v1/summaries", Admission, "Load of the host and of the machine.", shapes::summaries),
        srs(get(), "/api/v1/rusages", Admission, "Resources that the host has used.", shapes::rusages),
        srs(
            get(),
            "/api/v1/self_proc_stats",
            Admission,
            "The kernel's facts about the process (proc_pid_stat(5)).",
            shapes::self_proc_stats,
        ),
        srs(
            get(),
            "/api/v1/system_proc_stats",
            Admission,
            "The kernel's facts about the processors (proc_stat(5)).",
            shapes::system_proc_stats,
        ),
        srs(
            get(),
            "/api/v1/meminfos",
            Admission,
            "The machine's memory (proc_meminfo(5)).",
            shapes::meminfos,
        ),
        srs(get(), "/api/v1/authors", Admission, "License and authors.", shapes::authors),
        srs(get(), "/api/v1/features", Admission, "What the host has of SRS's features.", shapes::features),
        srs(
            get(),
            "/api/v1/requests",
            Admission,
            "The request, without its query and headers.",
            shapes::requests,
        ),
        srs(get(), "/api/v1/raw", Admission, "The settings of the API. There is no other RPC.", shapes::raw)
            .takes(&[Parameter { name: "rpc", text: "`raw`", kind: Kind::Anything }]),
        srs(get(), "/api/v1/vhosts", Admission, "The vhosts, in the order of the config.", shapes::vhosts),
        srs(get(), "/api/v1/vhosts/{id}", Admission, "A vhost; code 2014 without it.", shapes::vhost),
        srs(get(), "/api/v1/streams", Admission, "The streams, by name.", shapes::streams).takes(&SRS_PAGE),
        srs(get(), "/api/v1/streams/{id}", Admission, "A stream; code 2048 without it.", shapes::stream),
        srs(
            get(),
            "/api/v1/clients",
            Admission,
            "Publishers, players and viewers, the oldest first; addresses for users.",
            shapes::clients,
        )
        .takes(&SRS_PAGE),
        srs(get(), "/api/v1/clients/{id}", Admission, "A client; code 2049 without it.", shapes::client),
        srs(
            Method::DELETE,
            "/api/v1/clients/{id}",
            Operator,
            "Ends a client; code 2049 without it.",
            shapes::kick,
        ),
    ]
}

/// Returns name and text of the pages with SRS's shapes that are listed at their root.
fn srs_pages() -> impl Iterator<Item = (&'static str, &'static str)> {
    let pages = routes().iter().filter(|route| route.is_srs && route.method == Method::GET);
    pages.filter_map(|route| {
        let name = route.path.strip_prefix("/api/v1/").filter(|name| !name.contains('/'))?;
        Some((name, route.text))
    })
}

/// Probes that come here are asked for as any other page, on the control socket.
fn probe(api: &Api, call: &Call) -> Result<Reply, Refused> {
    let (status, body) =
        crate::http::probe(&call.path, &api.lifecycle).ok_or(Refused::Missing("no such page"))?;
    Ok(Reply::new(status, TEXT, body))
}
