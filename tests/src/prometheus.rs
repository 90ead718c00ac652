//! Prometheus, which scrapes a host.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::host::Host;
use crate::http::Request;
use crate::proxy::free_address;
use crate::scratch::Scratch;
use crate::wait::{SOON, wait_until};

/// A running Prometheus with rules; killed on drop.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
    _scratch: Scratch,
}

impl Prometheus {
    /// Starts it: it scrapes the host's API and evaluates `rules` each second.
    ///
    /// # Panics
    /// When it does not start, or the host has no API.
    #[must_use]
    pub fn start(host: &Host, rules: &str) -> Prometheus {
        let (scratch, address) = (Scratch::new(), free_address());
        let api = host.api.expect("the configuration enables the API");
        let write = |name: &str, text: &str| {
            std::fs::write(scratch.join(name), text).expect("the scratch directory is writable");
        };
        write("rules.yml", rules);
        write(
            "prometheus.yml",
            &format!(
                "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [rules.yml]\n\
                 scrape_configs:\n  - job_name: remuxd\n    static_configs: [{{targets: [\"{api}\"]}}]\n"
            ),
        );
        let log = scratch.join("log");
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", scratch.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", scratch.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--log.level=warn"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("the scratch directory is writable"));
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut prometheus = Prometheus { child, address, log, _scratch: scratch };
        wait_until(SOON, "Prometheus is ready", || {
            let ended = prometheus.child.try_wait().expect("a child of ours");
            assert!(ended.is_none(), "Prometheus ended at once:\n{}", prometheus.log());
            Request::get("/-/ready").send(address).is_ok_and(|response| response.status == 200)
        });
        prometheus
    }

    /// Returns the data of an answer of its API.
    ///
    /// # Panics
    /// When it refuses the request.
    #[must_use]
    pub fn api(&self, path: &str) -> Value {
        let answer = Request::get(path).send(self.address).and_then(|response| response.text());
        let answer = answer.unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.log()));
        let answer: Value =
            serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{path}: {error}: {answer}"));
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].clone()
    }

    /// Returns the result of an expression.
    ///
    /// # Panics
    /// When it is invalid.
    #[must_use]
    pub fn query(&self, expression: &str) -> Vec<Value> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let data = self.api(&format!("/api/v1/query?query={encoded}"));
        data["result"].as_array().cloned().unwrap_or_default()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
