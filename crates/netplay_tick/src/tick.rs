//! Ticks and how many there are in a second.

use core::fmt;
use core::time::Duration;

use crate::MeshTime;

/// The number of a simulation step, counted from the start of the match, wrapping.
///
/// Order is only defined between two that are less than half the range apart: at 240 Hz that is
/// 103 days. So there is no `Ord`; compare with [`Self::is_after`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NetTick(pub u32);

impl NetTick {
    /// The first tick of a match.
    pub const ZERO: Self = Self(0);

    /// The tick so many later; earlier if negative.
    #[must_use]
    pub const fn plus(self, ticks: i32) -> Self {
        Self(self.0.wrapping_add_signed(ticks))
    }

    /// How many ticks `self` is ahead of `other`; negative if behind.
    pub const fn ahead_of(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }

    /// Whether `self` is later.
    pub const fn is_after(self, other: Self) -> bool {
        self.ahead_of(other) > 0
    }

    /// What a datagram's header carries.
    pub const fn low(self) -> u16 {
        self.0 as u16
    }

    /// The tick with these low bits that is nearest to `self`.
    #[must_use]
    pub const fn nearest(self, low: u16) -> Self {
        self.plus(low.wrapping_sub(self.low()) as i16 as i32)
    }
}

impl fmt::Display for NetTick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Ticks per second: 10 to 240.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TickRate(u16);

impl TickRate {
    /// The fewest ticks per second.
    pub const MIN: u16 = 10;
    /// The most.
    pub const MAX: u16 = 240;

    /// So many ticks per second; `None` outside of 10 to 240.
    pub const fn new(per_second: u16) -> Option<Self> {
        if per_second < Self::MIN || per_second > Self::MAX { None } else { Some(Self(per_second)) }
    }

    /// Ticks per second.
    pub const fn per_second(self) -> u16 {
        self.0
    }

    /// How long a tick is, to the nanosecond. Many ticks are counted by [`Self::at`], which does not
    /// add up the rest.
    pub const fn tick_len(self) -> Duration {
        Duration::from_nanos(1_000_000_000 / self.0 as u64)
    }

    /// The tick of a match that started at `start`, and how much of it has passed (0 to 1). `None`
    /// before the start.
    pub fn at(self, start: MeshTime, now: MeshTime) -> Option<(NetTick, f64)> {
        let micros = u64::try_from(now.as_micros().checked_sub(start.as_micros())?).ok()?;
        let scaled = u128::from(micros) * u128::from(self.0);
        let fraction = (scaled % 1_000_000) as f64 / 1e6;
        Some((NetTick((scaled / 1_000_000) as u32), fraction))
    }

    /// When a tick begins, of the ticks around `near`.
    pub fn begin(self, start: MeshTime, near: MeshTime, tick: NetTick) -> MeshTime {
        let since = (near.as_micros() - start.as_micros()).max(0) as u64;
        let count = u128::from(since) * u128::from(self.0) / 1_000_000;
        let ahead = tick.ahead_of(NetTick(count as u32));
        let count = (count as i128 + i128::from(ahead)).max(0);
        let micros = (count * 1_000_000 + i128::from(self.0) - 1) / i128::from(self.0);
        MeshTime::from_micros(start.as_micros().saturating_add(micros as i64))
    }
}

impl Default for TickRate {
    /// 60 Hz.
    fn default() -> Self {
        Self(60)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn order_holds_over_the_wrap() {
        let last = NetTick(u32::MAX);
        assert!(last.plus(1).is_after(last));
        assert!(!last.is_after(last.plus(1)));
        assert_eq!(last.plus(1), NetTick::ZERO);
        assert_eq!(NetTick::ZERO.ahead_of(last), 1);
        assert!(!last.is_after(last));
    }

    #[test]
    fn rates_outside_of_10_to_240_are_refused() {
        assert_eq!(TickRate::new(9), None);
        assert_eq!(TickRate::new(241), None);
        assert_eq!(TickRate::new(240).map(TickRate::per_second), Some(240));
    }

    #[test]
    fn a_day_at_60_hz_has_no_rounding_error() {
        let start = MeshTime::from_micros(17);
        let day = MeshTime::from_micros(17 + 86_400_000_000);
        assert_eq!(TickRate::default().at(start, day), Some((NetTick(86_400 * 60), 0.0)));
        assert_eq!(TickRate::default().at(start, MeshTime::from_micros(16)), None);
    }

    proptest! {
        #[test]
        fn the_nearest_tick_is_found_from_its_low_bits(tick: u32, ahead in -32_768_i32..32_768) {
            let (here, there) = (NetTick(tick), NetTick(tick).plus(ahead));
            prop_assert_eq!(here.nearest(there.low()), there);
        }

        #[test]
        fn a_tick_begins_when_it_is_the_current_one(
            rate in TickRate::MIN..=TickRate::MAX, start: u32, since in 0_u64..1 << 40, ahead in 0..500_i32
        ) {
            let rate = TickRate::new(rate).unwrap();
            let start = MeshTime::from_micros(i64::from(start));
            let near = MeshTime::from_micros(start.as_micros() + since as i64);
            let (tick, _) = rate.at(start, near).unwrap();
            let tick = tick.plus(ahead);
            let begin = rate.begin(start, near, tick);
            prop_assert_eq!(rate.at(start, begin).unwrap().0, tick);
            let before = MeshTime::from_micros(begin.as_micros() - 1);
            prop_assert!(rate.at(start, before).is_none_or(|(earlier, _)| earlier == tick.plus(-1)));
        }
    }
}
