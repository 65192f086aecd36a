//! What sessions that go on have to agree on.

use std::collections::BTreeMap;

use netplay_rollback::Tick;

/// One number for each tick, and the nodes that say so, a bit for each.
#[derive(Default)]
pub(crate) struct Oracle {
    said: BTreeMap<Tick, (u64, u32)>,
}

impl Oracle {
    /// A node says this of a tick.
    ///
    /// # Panics
    /// If another one says something else.
    pub(crate) fn say(&mut self, node: usize, tick: Tick, value: u64, what: &str) {
        let (said, by) = self.said.entry(tick).or_insert((value, 0));
        assert!(*said == value, "node {node} has other {what} {tick} than nodes {by:#b}");
        *by |= 1 << node;
    }

    /// What this node alone has said counts no more.
    pub(crate) fn forget(&mut self, node: usize) {
        self.said.retain(|_, (_, by)| {
            *by &= !(1 << node);
            *by != 0
        });
    }
}
