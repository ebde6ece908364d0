//! What is measured, and on what.

use std::process::Command;

use crate::workspace;

/// Which state of the source this is, as git calls it.
pub(super) fn revision() -> String {
    let git = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .current_dir(workspace::root())
        .output();
    let said = git.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    said.unwrap_or_default()
}

/// Processors, memory and kernel.
pub(super) fn machine() -> String {
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors
        .lines()
        .find(|line| line.starts_with("model name"))
        .and_then(|line| line.split_once(": "))
        .map_or("an unknown processor", |(_, model)| model);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let count = processors
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory
        .split_whitespace()
        .nth(1)
        .and_then(|word| word.parse::<u64>().ok());
    let gibibytes = memory.unwrap_or(0) >> 20;
    let governor = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
    let governor = std::fs::read_to_string(governor).map_or_else(
        |_| String::new(),
        |name| format!(", governor {}", name.trim()),
    );
    format!(
        "{model}, {count} processors{governor}, {gibibytes} GiB, Linux {}",
        kernel.trim()
    )
}
