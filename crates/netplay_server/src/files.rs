//! How many sockets the system lets this process have.

/// Raises the soft limit of open files, which is 1024 on most systems, to the hard one, which only the
/// administrator raises. Gives what it is now, if the system says.
#[cfg(unix)]
pub fn raise_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

/// Windows has no such limit.
#[cfg(not(unix))]
pub fn raise_limit() -> Option<u64> {
    None
}
