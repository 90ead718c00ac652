//! The memory that this process may use: that of the machine, or less in a cgroup.

use std::path::Path;

/// Returns the memory of the machine, or the limit of the process's cgroup or of one above it, in bytes, whatever is least.
/// `None` if the kernel reports nothing.
pub fn machine_memory() -> Option<u64> {
    memory_by(|path| std::fs::read_to_string(path).ok())
}

/// Reads the kernel's files by `read`.
fn memory_by(read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let table = read(Path::new("/proc/meminfo")).unwrap_or_default();
    let total = table.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB"));
    let total = total.and_then(|kib| Some(kib.trim().parse::<u64>().ok()? << 10));
    let cgroups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let limits = cgroups.lines().filter_map(limit_files).flat_map(|(hierarchy, file, path)| {
        let limit = |path: &Path| read(&Path::new(hierarchy).join(path).join(file))?.trim().parse().ok();
        // A container finds its own cgroup at the root of the hierarchy, whatever its path.
        let above = Path::new(path.trim_start_matches('/')).ancestors();
        above.filter_map(limit).collect::<Vec<_>>()
    });
    limits.chain(total).min()
}

/// Returns where the limits of a line of /proc/self/cgroup are: the hierarchy, the name of the file, the path of the cgroup.
fn limit_files(line: &str) -> Option<(&'static str, &'static str, &str)> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    if controllers.is_empty() {
        // Version 2 writes `max` for no limit.
        return Some(("/sys/fs/cgroup", "memory.max", path));
    }
    // Version 1 writes a number above any memory for no limit.
    let has_memory = controllers.split(',').any(|one| one == "memory");
    has_memory.then_some(("/sys/fs/cgroup/memory", "memory.limit_in_bytes", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_least_of_machine_and_cgroups_counts() {
        let machine = ("/proc/meminfo", "MemTotal:       1048576 kB\nMemFree:  1 kB\n");
        let v2 = ("/proc/self/cgroup", "0::/system/remuxd\n");
        let v1 = ("/proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/docker/7\n0::/b:c\n");
        let own = "/sys/fs/cgroup/system/remuxd/memory.max";
        let above = "/sys/fs/cgroup/system/memory.max";
        let (root, v1_root) = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes");
        let v1_own = "/sys/fs/cgroup/memory/docker/7/memory.limit_in_bytes";
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<u64>);
        let rows: [Row; 9] = [
            ("nothing", &[], None),
            ("a machine", &[machine], Some(1024 * MIB)),
            ("no limit", &[machine, v2, (own, "max\n")], Some(1024 * MIB)),
            ("its own cgroup", &[machine, v2, (own, "268435456\n")], Some(256 * MIB)),
            ("one above", &[machine, v2, (own, "max\n"), (above, "134217728\n")], Some(128 * MIB)),
            ("a container", &[machine, v2, (root, "67108864\n")], Some(64 * MIB)),
            ("more than the machine", &[machine, v2, (own, "9999999999\n")], Some(1024 * MIB)),
            ("version 1", &[machine, v1, (v1_own, "33554432\n")], Some(32 * MIB)),
            ("version 1, no limit", &[machine, v1, (v1_root, "9223372036854771712\n")], Some(1024 * MIB)),
        ];
        for (name, files, expected) in rows {
            let read = |path: &Path| {
                let file = files.iter().find(|(name, _)| Path::new(name) == path);
                file.map(|(_, text)| (*text).to_owned())
            };
            assert_eq!(memory_by(read), expected, "{name}");
        }
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(machine_memory().is_some_and(|bytes| bytes > MIB));
    }
}
