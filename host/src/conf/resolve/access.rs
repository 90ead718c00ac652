//! Checks of access rules.

use crate::conf::config::{AddressRules, Config, Security, Vhost};
use crate::conf::diagnostics::Diagnostics;
use crate::conf::source::KeyPath;

pub(super) fn check(config: &Config, diagnostics: &mut Diagnostics) {
    for vhost in &config.vhosts {
        check_security(vhost, diagnostics);
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
