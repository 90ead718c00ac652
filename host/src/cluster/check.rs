//! Origins that are asked about a viewer (`token_traverse`).

use percent_encoding::percent_decode_str;

use super::error::UpstreamError;
use super::means::Means;
use super::origin::Asker;
use crate::conf::Vhost;
use crate::policy::{CREDENTIAL, HOPS, OriginRefusal, Request, hops_through};

/// Parameters of a viewer that do not reach an origin: they name another vhost there, or are those of a node.
const OWN: [&str; 4] = ["vhost", "domain", CREDENTIAL, HOPS];

/// Asks the origins of `vhost`, one after the other, to play the stream with the viewer's own parameters. The first that answers decides;
/// the connection ends with its answer.
///
/// # Errors
/// An origin refuses the viewer, or none answers.
pub(super) async fn check(means: &Means, vhost: &Vhost, request: &Request) -> Result<(), OriginRefusal> {
    let hops = hops_through(&request.hops, &means.access.node(), &vhost.name);
    let query = shared(&request.query);
    let mut reason = "the vhost has none".to_owned();
    let (origins, _) = means.origins(vhost, &request.key, None).await;
    for origin in origins {
        let location = origin.location.with_query(&query);
        let account = means.budget.address().account();
        let limit = vhost.cluster.connect_timeout;
        match means.opener.open((&location, origin.led), Asker::Viewer, &hops, &account, limit, |_| {}).await
        {
            Ok(_) => return Ok(()),
            Err(UpstreamError::Refused { code, .. }) => return Err(OriginRefusal::Refused { code }),
            Err(UpstreamError::Dropped) => {
                return Err(OriginRefusal::Refused { code: "the connection is closed".to_owned() });
            }
            Err(error) => reason = error.to_string(),
        }
    }
    Err(OriginRefusal::NoAnswer { reason })
}

/// Returns the pairs of a viewer's query that an origin may see.
fn shared(query: &str) -> String {
    let is_own = |pair: &&str| {
        let name = pair.split_once('=').map_or(*pair, |(name, _)| name).replace('+', " ");
        let name = percent_decode_str(&name).decode_utf8_lossy();
        pair.is_empty() || OWN.contains(&&*name)
    };
    query.split('&').filter(|pair| !is_own(pair)).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_chooses_no_vhost_at_the_origin_and_is_no_node() {
        let rows = [
            ("", ""),
            ("token=a%26b&x", "token=a%26b&x"),
            ("vhost=b&token=1&domain=c", "token=1"),
            ("v%68ost=b&remuxd_node=1.2.3&remuxd_hops=a/b&&token=1", "token=1"),
        ];
        for (query, expected) in rows {
            assert_eq!(shared(query), expected, "{query}");
        }
    }
}
