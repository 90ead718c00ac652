//! Hop lists: the nodes that a stream has passed.
//!
//! A hop list is the connect property `remuxdHops`, the header `X-Remuxd-Hops`, or the parameter `remuxd_hops`, which other servers
//! may pass on: `NODE/VHOST`, separated by commas, the first node first.

use super::Request;

/// The query parameter of a hop list.
pub const HOPS: &str = "remuxd_hops";
/// The header of a hop list.
pub const HOPS_HEADER: &str = "x-remuxd-hops";

/// Returns the hop list of a request that the vhost `vhost` of `node` makes for a client that came with `hops`.
pub fn hops_through(hops: &str, node: &str, vhost: &str) -> String {
    let separator = if hops.is_empty() { "" } else { "," };
    format!("{hops}{separator}{node}/{vhost}")
}

/// Returns the hop list of a request: that of the property or header, else of the parameter.
pub(super) fn hops_of(request: &Request) -> &str {
    if request.hops.is_empty() { request.parameter(HOPS).unwrap_or_default() } else { &request.hops }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Action;
    use crate::policy::request::tests::request;

    #[test]
    fn a_list_grows_at_its_end_and_a_property_comes_before_a_parameter() {
        assert_eq!(hops_through(&hops_through("", "a", "v"), "b", "w"), "a/v,b/w");
        let mut request = request(Action::Play, "v", "live", "x");
        assert_eq!(hops_of(&request), "");
        request.parameters.push((HOPS.to_owned(), "a/v".to_owned()));
        assert_eq!(hops_of(&request), "a/v");
        request.hops = "b/v".to_owned();
        assert_eq!(hops_of(&request), "b/v");
    }
}
