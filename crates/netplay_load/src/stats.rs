//! Percentiles of many values in little memory, and medians.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Parts of each power of two: values are kept to 1.6 %.
const PARTS: u64 = 64;

/// How often each duration was seen, to 1.6 % and a microsecond. Those of several processes can be
/// added up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    counts: BTreeMap<u64, u64>,
}

/// The class of a value: below [`PARTS`] each value has its own.
fn class(value: u64) -> u64 {
    let bits = u64::from(u64::BITS - value.leading_zeros());
    let shift = bits.saturating_sub(u64::from(PARTS.ilog2()) + 1);
    shift * PARTS + (value >> shift)
}

/// The largest value of a class.
fn largest(class: u64) -> u64 {
    let shift = (class / PARTS).saturating_sub(1);
    let top = class - shift * PARTS;
    (top << shift) + ((1 << shift) - 1)
}

impl Histogram {
    /// Counts a duration.
    pub fn add(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX >> 1);
        *self.counts.entry(class(micros)).or_default() += 1;
    }

    /// Counts what another has counted.
    pub fn merge(&mut self, other: &Self) {
        for (class, count) in &other.counts {
            *self.counts.entry(*class).or_default() += count;
        }
    }

    /// How many were counted.
    pub fn len(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The smallest value with at least `percent` per cent of all at or below it, in milliseconds,
    /// rounded up to the end of its class. `None` if nothing was counted.
    pub fn percentile_ms(&self, percent: f64) -> Option<f64> {
        let rank = ((percent / 100.0 * self.len() as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let found = self.counts.iter().find(|(_, count)| {
            seen += **count;
            seen >= rank
        });
        found.map(|(class, _)| largest(*class) as f64 / 1e3)
    }
}

/// The middle value, or the mean of the middle two. `None` without values.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some((values[middle - 1] + upper) / 2.0)
}

/// `value` with two decimals: more would claim a precision that no run has.
pub fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(micros: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        micros.into_iter().for_each(|value| histogram.add(Duration::from_micros(value)));
        histogram
    }

    #[test]
    fn small_values_are_exact_and_large_ones_within_two_per_cent() {
        for value in (0..200_u64).chain([1_000, 65_535, 65_536, 1_000_000, 3_600_000_000]) {
            let kept = of([value]).percentile_ms(50.0).unwrap() * 1e3;
            let error = kept - value as f64;
            assert!(error >= 0.0 && error <= value as f64 * 0.016, "{value} became {kept}");
            assert!(value >= 128 || error == 0.0, "{value} became {kept}");
        }
    }

    #[test]
    fn a_class_is_never_smaller_for_a_larger_value() {
        let classes: Vec<_> = (0..100_000).map(class).collect();
        assert!(classes.is_sorted());
        assert!((0..100_000).all(|value| class(largest(class(value))) == class(value)));
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let hundred = of((1..=100).rev());
        assert_eq!(hundred.percentile_ms(50.0), Some(0.050));
        assert_eq!(hundred.percentile_ms(99.0), Some(0.099));
        assert_eq!(hundred.percentile_ms(100.0), Some(0.1));
        assert_eq!(hundred.percentile_ms(0.0), Some(0.001));
        assert_eq!(of([3, 1, 2]).percentile_ms(99.0), Some(0.003));
        assert_eq!(of([]).percentile_ms(99.0), None);
    }

    #[test]
    fn what_two_have_counted_is_as_if_one_had() {
        let (mut one, two) = (of([1, 5, 900]), of([5, 7_000]));
        one.merge(&two);
        assert_eq!(one, of([1, 5, 5, 900, 7_000]));
        assert_eq!(one.len(), 5);
    }

    #[test]
    fn a_median_ignores_order_and_outliers() {
        assert_eq!(median([9.0, 1.0, 1000.0]), Some(9.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([]), None);
    }

    #[test]
    fn rounding_keeps_two_decimals() {
        assert_eq!(rounded(1.006), 1.01);
        assert_eq!(rounded(-0.125), -0.13);
    }
}
