//! The configs of topologies in docs/cluster.md.

use remuxd_tests::host::remuxd;
use remuxd_tests::scratch::Scratch;
use remuxd_tests::tls::{Certificate, Files};
use remuxd_tests::tool::root;

#[test]
fn every_config_of_a_topology_passes_check() {
    let page = std::fs::read_to_string(root().join("docs/cluster.md")).unwrap();
    let scratch = Scratch::new();
    let tls = Files::of(&Certificate::of(&["edge1.example.com"]));
    // The files that the configs name.
    let secrets = ["/etc/remuxd/cluster.key", "/etc/remuxd/redis.password"];
    for path in secrets {
        std::fs::write(
            scratch.join(path.rsplit('/').next().unwrap()),
            "a secret of more than 32 bytes, as it must be",
        )
        .unwrap();
    }
    let start = page.find("## Topologies").unwrap();
    let end = page.find("## An edge").unwrap();
    let configs = configs(&page[..end], page[..start].lines().count());
    assert_eq!(configs.len(), 5);
    for (line, config) in configs {
        let config = config
            .replace("/etc/remuxd/server.key", tls.key().to_str().unwrap())
            .replace("/etc/remuxd/server.crt", tls.cert().to_str().unwrap())
            .replace("/etc/remuxd", scratch.path().to_str().unwrap());
        let file = scratch.join("under-test.toml");
        std::fs::write(&file, config).unwrap();
        let output = remuxd(&["check", "--config", file.to_str().unwrap()]);
        let printed = String::from_utf8_lossy(&output.stderr);
        let is_good = output.status.success() && !printed.contains("warning");
        assert!(is_good, "docs/cluster.md:{line}:\n{printed}");
    }
}

/// Returns the blocks of TOML of a page after line `start`, each with the number of its first line.
fn configs(page: &str, start: usize) -> Vec<(usize, String)> {
    let mut configs = Vec::new();
    let mut lines = (1..).zip(page.lines()).skip(start);
    while let Some((number, line)) = lines.next() {
        if line == "```toml" {
            let block = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
            configs.push((number + 1, block.collect::<Vec<_>>().join("\n")));
        }
    }
    configs
}
