//! Percentiles and medians.

pub use netplay_load::{median, rounded};

/// The smallest value with at least `percent` per cent of all values at or below it (nearest rank).
/// `None` without values. Sorts `values`.
pub fn percentile(values: &mut [f64], percent: f64) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let rank = (percent / 100.0 * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let mut values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&mut values, 50.0), Some(50.0));
        assert_eq!(percentile(&mut values, 99.0), Some(99.0));
        assert_eq!(percentile(&mut values, 100.0), Some(100.0));
        assert_eq!(percentile(&mut values, 0.0), Some(1.0));
    }

    #[test]
    fn a_high_percentile_of_few_values_is_the_largest() {
        assert_eq!(percentile(&mut [3.0, 1.0, 2.0], 99.0), Some(3.0));
        assert_eq!(percentile(&mut [7.0], 50.0), Some(7.0));
    }

    #[test]
    fn nothing_has_no_percentile() {
        assert_eq!(percentile(&mut [], 50.0), None);
    }
}
