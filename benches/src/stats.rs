//! Percentiles and medians.

/// The smallest value with at least `percent` per cent of all values at or below it (nearest rank).
/// `None` without values. Sorts `values`.
pub fn percentile(values: &mut [f64], percent: f64) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let rank = (percent / 100.0 * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied()
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
    fn a_median_ignores_order_and_outliers() {
        assert_eq!(median([9.0, 1.0, 1000.0]), Some(9.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn nothing_has_no_percentile_and_no_median() {
        assert_eq!(percentile(&mut [], 50.0), None);
        assert_eq!(median([]), None);
    }

    #[test]
    fn rounding_keeps_two_decimals() {
        assert_eq!(rounded(1.006), 1.01);
        assert_eq!(rounded(-0.125), -0.13);
    }
}
