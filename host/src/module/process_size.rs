//! Process size: memory of this process, as the kernel counts it.

use std::fs;

/// Returns a size of `/proc/self/status`, such as `VmSize`, in bytes; 0 if it cannot be read.
pub fn process_size(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value
        .and_then(|value| value.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .map_or(0, |size| size << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes() {
        assert!(process_size("VmSize") > process_size("VmData"));
        assert!(process_size("VmData") > 0);
        assert_eq!((process_size("Vm"), process_size("Name")), (0, 0));
    }
}
