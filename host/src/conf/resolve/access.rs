//! Checks of access rules.

use std::net::SocketAddr;

use crate::conf::access::{AddressRules, Scope, Security};
use crate::conf::config::{Config, Vhost};
use crate::conf::diagnostics::Diagnostics;
use crate::conf::source::KeyPath;

pub(super) fn check(config: &Config, diagnostics: &mut Diagnostics) {
    check_api(config, diagnostics);
    for vhost in &config.vhosts {
        check_security(vhost, diagnostics);
        check_keys(vhost, diagnostics);
    }
}

/// Without users, everybody who reaches the API may read it, so other machines must not.
fn check_api(config: &Config, diagnostics: &mut Diagnostics) {
    let api = &config.http_api;
    let table = KeyPath::of("http_api");
    let listeners =
        [(api.enabled, api.listen, table.clone()), (api.https.enabled, api.https.listen, table.key("https"))];
    let exported =
        |(enabled, listen, _): &(bool, SocketAddr, KeyPath)| *enabled && !listen.ip().is_loopback();
    for (.., table) in listeners.into_iter().filter(exported).filter(|_| api.users.is_empty()) {
        let location = diagnostics.source().value(&table.key("listen"));
        diagnostics
            .error("everybody could read the API", location, "reached from other machines")
            .help("add a user, [[http_api.user]], or listen on loopback: \"127.0.0.1:1985\"");
    }
}

/// A rule that allows what another denies has no effect, and somebody believes that it has.
fn check_security(vhost: &Vhost, diagnostics: &mut Diagnostics) {
    let Security { enabled, publish, play } = &vhost.security;
    let path = vhost.path().key("security");
    check_rules(publish, &path.clone().key("publish"), diagnostics);
    check_rules(play, &path.clone().key("play"), diagnostics);
    if *enabled && [publish, play].iter().all(|rules| rules.allow.is_empty() && rules.deny.is_empty()) {
        let location = diagnostics.source().value(&path.key("enabled"));
        diagnostics
            .warning("security without rules refuses everybody", location, "")
            .help("allow somebody: [vhost.\"NAME\".security.play] allow = [\"all\"]");
    }
}

fn check_rules(rules: &AddressRules, path: &KeyPath, diagnostics: &mut Diagnostics) {
    for (index, allowed) in rules.allow.iter().enumerate() {
        let denied = rules.deny.iter().enumerate().find(|(_, denied)| denied.contain_all(allowed));
        let Some((at, denied)) = denied else { continue };
        let location = |key, index| diagnostics.source().value(&path.clone().key(key).index(index));
        let (here, there) = (location("allow", index), location("deny", at));
        diagnostics
            .error(format!("`{allowed}` is allowed and denied"), here, "has no effect")
            .and(there, format!("`{denied}` is denied first"))
            .help("what is denied stays denied: remove one of them, or deny less");
    }
}

/// Credentials that nobody can have refuse everybody; two keys of one id would make signatures ambiguous.
fn check_keys(vhost: &Vhost, diagnostics: &mut Diagnostics) {
    let needed = |scope: &Scope| scope.enabled && (scope.publish || scope.play);
    let lacks = [
        ("signed_url", needed(&vhost.signed_url.scope) && vhost.signed_url.keys.is_empty()),
        ("jwt", needed(&vhost.jwt.scope) && vhost.jwt.keys.is_empty() && vhost.jwt.jwks_url.is_none()),
        ("publish_key", vhost.publish_key.enabled && vhost.publish_key.keys.is_empty()),
        ("secure_link", vhost.secure_link.enabled && vhost.secure_link.secret.bytes().is_empty()),
    ];
    for (table, _) in lacks.into_iter().filter(|(_, lacks)| *lacks) {
        let location = diagnostics.source().value(&vhost.path().key(table).key("enabled"));
        let what = if table == "secure_link" { "secret" } else { "key" };
        diagnostics
            .error(format!("`{table}` without a {what} refuses everybody"), location, "enabled here")
            .help("make one with `remuxd sign`; see docs/access.md");
    }
    let ids = |keys: &mut dyn Iterator<Item = String>| keys.collect::<Vec<_>>();
    let signing = ids(&mut vhost.signed_url.keys.iter().map(|key| key.id.clone()));
    let tokens = ids(&mut vhost.jwt.keys.iter().map(|key| key.id.clone()));
    for (table, ids) in [("signed_url", signing), ("jwt", tokens)] {
        for (index, id) in ids.iter().enumerate() {
            let Some(first) = ids[..index].iter().position(|other| other == id && !id.is_empty()) else {
                continue;
            };
            let path = |index| vhost.path().key(table).key("key").index(index).key("id");
            let location = |index| diagnostics.source().value(&path(index));
            let (here, there) = (location(index), location(first));
            diagnostics
                .error(format!("two keys of `{table}` have the id `{id}`"), here, "the second")
                .and(there, "the first");
        }
    }
}
