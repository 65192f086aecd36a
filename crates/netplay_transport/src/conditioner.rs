//! What the link to a peer is made to suffer, for trying a game under bad conditions.

use netplay_simnet::Conditions;

/// Makes the link to a peer worse than it is: it delays, loses, doubles, reorders and slows down
/// packets, in both directions, by the same model as `netplay_simnet`. For development and tests.
///
/// It stands where the network begins, below encryption: everything that the link sends and receives
/// passes it, connecting included. What it does comes on top of what the real path does, and of a
/// conditioner at the other end: where both players condition what they send **and** what they
/// receive, every packet suffers twice.
///
/// Guaranteed: memory for packets under way is bounded; as in a router, the newest is dropped where
/// it does not fit. A link without conditioner pays nothing. Not guaranteed: exact times. A packet is
/// released by a timer of whole milliseconds, late rather than early.
///
/// ```
/// use netplay_transport::LinkConditioner;
///
/// let wifi = LinkConditioner::new("wifi".parse()?);
/// let slow_upload = LinkConditioner::outgoing("delay=40ms,rate=480kbit".parse()?).with_seed(7);
/// # Ok::<(), netplay_transport::InvalidConditions>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinkConditioner {
    /// What happens to packets that we send.
    pub outgoing: Conditions,
    /// What happens to packets that we receive.
    pub incoming: Conditions,
    /// Where the random numbers come from. Each link, and each direction of it, gets its own from
    /// this. It counts from the moment when conditions are set on a link that has none; a change of
    /// the seed alone changes nothing.
    pub seed: u64,
}

impl LinkConditioner {
    /// The same conditions in both directions: a round trip pays every delay twice.
    pub fn new(conditions: Conditions) -> Self {
        Self { outgoing: conditions.clone(), incoming: conditions, seed: 0 }
    }

    /// For what we send only. Where all players do so, every packet suffers once.
    pub fn outgoing(conditions: Conditions) -> Self {
        Self { outgoing: conditions, ..Self::default() }
    }

    /// With another seed than 0.
    #[must_use]
    pub const fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}
