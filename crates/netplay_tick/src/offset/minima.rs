//! The smallest values of a sliding window, as points of a line that lies below all of them.

use std::collections::VecDeque;

/// Points are at least so many microseconds apart: of those between, the lowest is kept.
const BUCKET_US: f64 = 250_000.0;
/// A point's age at most.
const WINDOW_US: f64 = 10_000_000.0;

/// What was measured at a time, both in microseconds.
#[derive(Clone, Copy, Debug)]
struct Point {
    bucket: f64,
    at: f64,
    value: f64,
}

/// The lowest value of each quarter of a second, for ten seconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Minima {
    points: VecDeque<Point>,
}

impl Minima {
    pub(super) fn len(&self) -> usize {
        self.points.len()
    }

    pub(super) fn clear(&mut self) {
        self.points.clear();
    }

    /// Takes a value; `slope` is how much the values change in a microsecond by themselves.
    pub(super) fn add(&mut self, at: f64, value: f64, slope: f64) {
        let bucket = (at / BUCKET_US).floor();
        match self.points.back_mut() {
            // Values come nearly in order; a late one counts where the latest are.
            Some(last) if bucket <= last.bucket => {
                if value - slope * (at - last.at) < last.value {
                    (last.at, last.value) = (at, value);
                }
            }
            _ => self.points.push_back(Point { bucket, at, value }),
        }
    }

    /// Drops what is too old.
    pub(super) fn expire(&mut self, now: f64) {
        while self.points.front().is_some_and(|point| point.at < now - WINDOW_US) {
            self.points.pop_front();
        }
    }

    /// The times of the first and the last point.
    pub(super) fn span(&self) -> Option<(f64, f64)> {
        Some((self.points.front()?.at, self.points.back()?.at))
    }

    /// The lowest value, had all been measured at `at`.
    pub(super) fn lowest(&self, at: f64, slope: f64) -> f64 {
        self.leveled(at, slope).fold(f64::INFINITY, f64::min)
    }

    /// How far the fifth lowest value lies above the lowest: whether many have touched the ground.
    pub(super) fn spread(&self, at: f64, slope: f64) -> f64 {
        let mut lowest = [f64::INFINITY; 5];
        for value in self.leveled(at, slope) {
            let mut value = value;
            for place in &mut lowest {
                if value < *place {
                    core::mem::swap(place, &mut value);
                }
            }
        }
        let known = self.points.len().min(lowest.len());
        if known == 0 { 0.0 } else { lowest[known - 1] - lowest[0] }
    }

    fn leveled(&self, at: f64, slope: f64) -> impl Iterator<Item = f64> {
        self.points.iter().map(move |point| point.value - slope * (point.at - at))
    }
}
