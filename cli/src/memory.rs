//! How much memory this process may have: what the machine, its container or its limits leave.
//!
//! Guarantee: the smallest of what is known; `None` where nothing is.

use rustix::process::{Resource, getrlimit};
use std::path::Path;

/// Share of that memory, in hundredths, from which on running queries are ended.
const SHARE: u64 = 85;

/// Bytes from which on running queries are ended, before the system ends the process.
pub(crate) fn process_bytes_max() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let groups = groups.lines().filter_map(limit_file).filter_map(|path| limit(Path::new(&path)));
    let address_space = getrlimit(Resource::As).current;
    machine.into_iter().chain(groups).chain(address_space).min().map(|bytes| bytes / 100 * SHARE)
}

/// Bytes of the machine, of `/proc/meminfo`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// Where a line of `/proc/self/cgroup` has its limit: `0::/path`, or `4:memory:/path` of the older kind.
fn limit_file(line: &str) -> Option<String> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?.trim_end_matches('/'));
    match controllers {
        "" => Some(format!("/sys/fs/cgroup{path}/memory.max")),
        names if names.split(',').any(|name| name == "memory") => {
            Some(format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes"))
        }
        _ => None,
    }
}

/// The limit in a file; `max` is none.
fn limit(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_found_where_the_system_says() {
        assert_eq!(total("MemTotal:       24576 kB\nMemFree: 1 kB\n"), Some(24 << 20));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        let check = |line: &str, file: Option<&str>| assert_eq!(limit_file(line).as_deref(), file, "{line}");
        check("0::/", Some("/sys/fs/cgroup/memory.max"));
        check("0::/pod/catena", Some("/sys/fs/cgroup/pod/catena/memory.max"));
        check("4:cpu,memory:/docker/1", Some("/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes"));
        check("3:cpuset:/docker/1", None);
        let max = process_bytes_max().expect("this machine has memory");
        assert!(max > 64 << 20, "{max}");
    }
}
