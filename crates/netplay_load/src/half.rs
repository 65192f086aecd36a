//! Half load: signals that keep the server's processor busy half of the time.
//!
//! It is not half of what a server relays at most. Then signals come and go together, and share calls of the
//! system; at a steady rate each comes by itself, and costs several times as much: half of the most
//! keeps every server here busy all the time.

use std::time::Duration;

use crate::Result;
use crate::team::Team;
use crate::worker::Command;

/// Where the search begins: what most machines can do.
const FIRST_PER_SECOND: f64 = 20_000.0;

/// How long each try takes. Processor time is told in hundredths of a second.
const TRY: Duration = Duration::from_secs(1);
const TRIES: u32 = 8;

/// Per cent of the processor that are half of it, and how far off is near enough.
const HALF: f64 = 50.0;
const NEAR: f64 = 5.0;

/// Signals a second that keep the server about half busy; `None` where the system does not tell how busy it is.
pub(crate) fn find(team: &mut Team, clients: usize) -> Result<Option<f64>> {
    let mut per_second = FIRST_PER_SECOND;
    for _ in 0..TRIES {
        let paced = Command::Paced { clients, per_second, ms: TRY.as_millis() as u64 };
        let busy = team.ask(&paced, TRY)?.server_busy_pct;
        if busy <= 0.0 {
            return Ok(None);
        }
        if (busy - HALF).abs() <= NEAR {
            break;
        }
        // The more there are, the less each costs: a step too far is taken back by the next.
        per_second *= (HALF / busy).clamp(0.5, 2.0);
    }
    Ok(Some(per_second))
}
