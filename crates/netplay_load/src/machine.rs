//! What the system says of a process, and where it may run. Only Linux says it; elsewhere processes use
//! all processors, and memory and time are unknown.

/// What a process holds and has used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Resident memory (`VmRSS`), KiB.
    pub(crate) rss_kib: f64,
    /// Memory that is its own alone and no file's (`Anonymous`), KiB.
    pub(crate) anonymous_kib: f64,
    /// Seconds of processor time, in the program and in the system for it.
    pub(crate) cpu_secs: f64,
    /// Open files.
    pub(crate) files: u64,
}

/// What the process with this id holds and has used, if the system tells.
pub(crate) fn usage(pid: u32) -> Option<Usage> {
    /// Of `/proc/PID/stat`; the same on every Linux.
    const TICKS_PER_SECOND: f64 = 100.0;
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok()
    };
    let stat = read("stat")?;
    // The name, in brackets, may hold spaces.
    let mut times = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || times.next()?.parse::<f64>().ok();
    Some(Usage {
        rss_kib: field(&read("status")?, "VmRSS:")?,
        anonymous_kib: field(&read("smaps_rollup")?, "Anonymous:")?,
        cpu_secs: (ticks()? + ticks()?) / TICKS_PER_SECOND,
        files: std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |files| files.count() as u64),
    })
}

/// The processors that this process may use, in their order.
#[cfg(target_os = "linux")]
pub(crate) fn processors() -> Vec<usize> {
    use nix::sched::{CpuSet, sched_getaffinity};
    let allowed = sched_getaffinity(nix::unistd::Pid::from_raw(0));
    let is_set = |cpu: &usize| allowed.as_ref().is_ok_and(|set| set.is_set(*cpu) == Ok(true));
    (0..CpuSet::count()).filter(is_set).collect()
}

/// Binds this process to a processor. Threads that run already stay where they are: call it first.
#[cfg(target_os = "linux")]
pub(crate) fn stay_on(cpu: usize) -> crate::Result<()> {
    use nix::sched::{CpuSet, sched_setaffinity};
    let mut one = CpuSet::new();
    one.set(cpu)?;
    Ok(sched_setaffinity(nix::unistd::Pid::from_raw(0), &one)?)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn processors() -> Vec<usize> {
    Vec::new()
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn stay_on(_: usize) -> crate::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_files_and_used_time() {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        // Processor time passes while this works, though others may have most of it.
        let usage = loop {
            let usage = usage(std::process::id()).unwrap();
            if usage.cpu_secs >= 0.03 || std::time::Instant::now() > deadline {
                break usage;
            }
        };
        assert!(usage.rss_kib > 500.0 && usage.anonymous_kib > 0.0, "{usage:?}");
        assert!(usage.cpu_secs >= 0.03 && usage.files >= 3, "{usage:?}");
        assert!(super::usage(u32::MAX).is_none());
        assert!(!processors().is_empty());
    }
}
