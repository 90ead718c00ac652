//! Facts about a running host, as its API reports them.

use serde_json::Value;

use crate::host::Host;
use crate::http::Request;
use crate::secrets;
use crate::wait::{SOON, wait_until};

impl Host {
    /// Returns a page of the API.
    ///
    /// # Panics
    /// When the API does not listen, does not answer, or shows a secret.
    #[must_use]
    pub fn api_page(&self, path: &str) -> String {
        let address = self.api.expect("the configuration enables the API");
        let page = Request::get(path).send(address).and_then(|response| response.text());
        let page = page.expect("the API answers");
        secrets::assert_hidden(path, &page);
        page
    }

    /// Returns a page of the API, parsed as JSON.
    ///
    /// # Panics
    /// As [`Host::api_page`], and when the page is not JSON.
    #[must_use]
    pub fn api_json(&self, path: &str) -> Value {
        serde_json::from_str(&self.api_page(path)).expect("the page is JSON")
    }

    /// Returns the value of a metric; one with labels is named with them, as the page has them.
    ///
    /// # Panics
    /// As [`Host::api_page`], and when there is no such metric.
    #[must_use]
    pub fn metric(&self, name: &str) -> u64 {
        let page = self.api_page("/metrics");
        let mut samples = page.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        samples.next().and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in\n{page}"))
    }

    /// Returns the sum of a number that the API reports for each generation of `module`, or of all modules if it is `None`.
    ///
    /// # Panics
    /// As [`Host::api_json`].
    #[must_use]
    pub fn count(&self, number: &str, module: Option<&str>) -> u64 {
        let modules = self.api_json("/api/v1/modules");
        let modules = modules.as_array().expect("a list of modules").iter();
        let modules = modules.filter(|one| module.is_none_or(|name| one["name"] == name));
        modules.map(|one| one[number].as_u64().expect("a number")).sum()
    }

    /// Returns the rows of `remuxd sessions`: id, action, protocol, stream, address, seconds, bytes, and the subject if there is
    /// one.
    ///
    /// # Panics
    /// When the host does not answer.
    #[must_use]
    pub fn sessions(&self) -> Vec<Vec<String>> {
        let output = self.command(&["sessions"]);
        let table = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{table}{}", String::from_utf8_lossy(&output.stderr));
        table.lines().skip(1).map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    }

    /// Waits until the live mounts have `count` viewers, served or about to be.
    ///
    /// # Panics
    /// When that does not happen in time.
    pub fn wait_viewers(&self, count: usize) {
        let fact = || self.count("viewers", None) == count as u64;
        wait_until(SOON, &format!("live mounts have {count} viewers"), fact);
    }

    /// Waits until `count` viewers and players wait for a publisher.
    ///
    /// # Panics
    /// When that does not happen in time.
    pub fn wait_waiting(&self, count: usize) {
        let fact = || self.metric("remuxd_waiting") == count as u64;
        wait_until(SOON, &format!("{count} viewers and players wait for a publisher"), fact);
    }

    /// Waits until `count` faults of a module's remuxers are counted.
    ///
    /// # Panics
    /// When that does not happen in time.
    pub fn wait_faults(&self, module: &str, count: u64) {
        let fact = || self.count("faults", Some(module)) == count;
        wait_until(SOON, &format!("{count} faults of {module} are counted"), fact);
    }

    /// Waits until the current generation of a module is in `state`.
    ///
    /// # Panics
    /// When that does not happen in time.
    pub fn wait_state(&self, module: &str, state: &str) {
        let fact = || {
            let modules = self.api_json("/api/v1/modules");
            let mut modules = modules.as_array().expect("a list of modules").iter();
            modules.any(|one| one["name"] == module && one["state"] == state)
        };
        wait_until(SOON, &format!("a generation of {module} is {state}"), fact);
    }
}
