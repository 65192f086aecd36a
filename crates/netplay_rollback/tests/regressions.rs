//! Plans that once failed, shrunk, each named after what was wrong.

mod support;

use support::plan::{Fault, Plan, run};
use support::world::Setup;

fn plan(peers: usize, seed: u64, faults: Vec<(u64, Fault)>) -> Plan {
    Plan { seed, setup: Setup { peers, ..Setup::default() }, faults }
}

#[test]
fn who_dies_and_starts_in_the_same_moment_does_not_hang_the_simulation() {
    run(&plan(3, 1, vec![(500, Fault::Kill { node: 1, back_after: Some(0) })]));
}
