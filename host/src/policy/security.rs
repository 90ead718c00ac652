//! `security`: which addresses may publish and play.

use std::net::IpAddr;

use super::{Action, Refusal};
use crate::conf::{AddressRules, Addresses, Security};

/// Checks an address as SRS does: what a rule denies is refused, whatever else allows it. If there is any rule that allows,
/// also one for the other action, or no rule at all, only what is allowed for this action is accepted.
pub(super) fn check_address(security: &Security, action: Action, address: IpAddr) -> Result<(), Refusal> {
    let Security { enabled, publish, play } = security;
    if !enabled {
        return Ok(());
    }
    let AddressRules { allow, deny } = match action {
        Action::Publish => publish,
        Action::Play => play,
    };
    // A socket that listens on [::] sees IPv4 peers as ::ffff:a.b.c.d.
    let address = address.to_canonical();
    let has = |addresses: &&Addresses| addresses.contain(address);
    if let Some(rule) = deny.iter().find(has) {
        return Err(Refusal::AddressDenied { rule: *rule });
    }
    let only_denies = [publish, play].iter().all(|rules| rules.allow.is_empty())
        && [publish, play].iter().any(|rules| !rules.deny.is_empty());
    if only_denies || allow.iter().any(|addresses| addresses.contain(address)) {
        return Ok(());
    }
    Err(Refusal::AddressNotAllowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::Config;

    fn security(rules: &str) -> Security {
        let text = format!("[vhost.x.security]\nenabled = true\n{rules}");
        Config::read_text(&text, "text").0.vhosts[0].security.clone()
    }

    #[test]
    fn rules_have_the_order_of_srs() {
        let rows: &[(&str, &str, [bool; 2])] = &[
            // Rules; address; whether it may publish and play.
            ("", "192.0.2.1", [false, false]),
            ("publish.allow = [\"all\"]", "192.0.2.1", [true, false]),
            ("play.allow = [\"all\"]", "2001:db8::1", [false, true]),
            ("play.deny = [\"192.0.2.1\"]", "192.0.2.1", [true, false]),
            ("play.deny = [\"192.0.2.1\"]", "192.0.2.2", [true, true]),
            ("play.deny = [\"192.0.2.1\"]\npublish.allow = [\"10.0.0.0/8\"]", "192.0.2.2", [false, false]),
            ("play.deny = [\"192.0.2.1\"]\npublish.allow = [\"10.0.0.0/8\"]", "10.1.2.3", [true, false]),
            ("play.allow = [\"192.0.2.0/24\"]\nplay.deny = [\"192.0.2.1\"]", "192.0.2.1", [false, false]),
            ("play.allow = [\"192.0.2.0/24\"]\nplay.deny = [\"192.0.2.1\"]", "192.0.2.2", [false, true]),
            ("play.allow = [\"192.0.2.0/24\"]", "::ffff:192.0.2.2", [false, true]),
            ("play.allow = [\"2001:db8::/32\"]", "2001:db8::7", [false, true]),
            ("play.allow = [\"2001:db8::/32\"]", "192.0.2.2", [false, false]),
            ("play.deny = [\"all\"]", "192.0.2.2", [true, false]),
        ];
        for (rules, address, expected) in rows {
            let security = security(rules);
            let may = |action| check_address(&security, action, address.parse().unwrap()).is_ok();
            assert_eq!([may(Action::Publish), may(Action::Play)], *expected, "{rules}: {address}");
        }
    }

    #[test]
    fn nothing_is_checked_unless_enabled() {
        let config = Config::read_text("[vhost.x.security]\nplay.deny = [\"all\"]", "text").0;
        let address = "192.0.2.1".parse().unwrap();
        assert_eq!(check_address(&config.vhosts[0].security, Action::Play, address), Ok(()));
    }

    #[test]
    fn the_log_names_the_rule() {
        let security = security("play.deny = [\"192.0.2.0/24\"]");
        let refusal = check_address(&security, Action::Play, "192.0.2.1".parse().unwrap()).unwrap_err();
        assert_eq!(refusal.to_string(), "security denies 192.0.2.0/24");
    }
}
