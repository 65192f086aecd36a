//! Conditions as text, for flags and logs.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use thiserror::Error;

use crate::conditions::{Conditions, Jitter, Loss, Rate, Reorder, Surge};

/// What a text of conditions may hold, for errors and help.
const PARTS: &str = "a preset (perfect, lan, wifi, mobile, bad-hotel), which comes first, or one of \
                     delay=, jitter=, loss=, burst=, duplicate=, reorder=, rate=, surge=; each once, \
                     with commas between them";
const DELAY: &str = "delay=TIME, like 40ms";
const JITTER: &str = "jitter=TIME, jitter=TIME/CORRELATION or jitter=TIME/queues, like 10ms, \
                      10ms/60% or 20ms/queues";
const LOSS: &str = "loss=SHARE, like 5% or 0.05";
const BURST: &str = "burst=PACKETS with loss=SHARE, like loss=5%,burst=6; or \
                     burst=ENTER/LEAVE/LOSS_GOOD/LOSS_BAD without loss, like 0.2%/30%/0%/60%";
const BURST_TOO_SHORT: &str = "longer for so much loss: at least loss / (1 - loss) packets";
const DUPLICATE: &str = "duplicate=SHARE, like 1%";
const REORDER: &str = "reorder=SHARE/TIME, like 1%/40ms";
const RATE: &str = "rate=BYTES or rate=BYTES/QUEUE, like 60kB/30kB; units B, kB, MB, and for the \
                    rate kbit, Mbit";
const SURGE: &str = "surge=EVERY/LASTS/MAX, like 3s/300ms/150ms";

/// The queue of a rate that comes without one: so long takes the bottleneck to empty it.
const QUEUE_MILLIS: u64 = 250;
/// Its size at least: some full datagrams.
const QUEUE_MIN: u64 = 10_000;

/// A text that is no [`Conditions`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("conditions: {part:?} is wrong; it has to be {allowed}")]
pub struct InvalidConditions {
    /// The part of the text that is wrong.
    pub part: String,
    /// What is allowed in its place.
    pub allowed: &'static str,
}

impl FromStr for Conditions {
    type Err = InvalidConditions;

    /// A preset's name, or parts with commas between them, or both: `wifi,delay=80ms`. What is not
    /// mentioned is as in the preset, or as in [`Conditions::perfect`].
    ///
    /// | part | means | like |
    /// |---|---|---|
    /// | `perfect`, `lan`, `wifi`, `mobile`, `bad-hotel` | a preset; comes first | `wifi` |
    /// | `delay=TIME` | every packet travels so long | `delay=40ms` |
    /// | `jitter=TIME` | [`Jitter::Independent`] | `jitter=10ms` |
    /// | `jitter=TIME/CORRELATION` | [`Jitter::Clumped`] | `jitter=10ms/60%` |
    /// | `jitter=TIME/queues` | [`Jitter::Queues`] | `jitter=20ms/queues` |
    /// | `loss=SHARE` | [`Loss::Random`] | `loss=5%` |
    /// | `loss=SHARE,burst=PACKETS` | [`Loss::Bursts`] that lose everything, of this mean length | `loss=5%,burst=6` |
    /// | `burst=ENTER/LEAVE/GOOD/BAD` | [`Loss::Bursts`], number by number | `burst=0.2%/30%/0%/60%` |
    /// | `duplicate=SHARE` | this share arrives twice | `duplicate=1%` |
    /// | `reorder=SHARE/TIME` | [`Reorder`] | `reorder=1%/40ms` |
    /// | `rate=BYTES/QUEUE` | [`Rate`]; the queue is a quarter of a second if not given | `rate=480kbit/30kB` |
    /// | `surge=EVERY/LASTS/MAX` | [`Surge`] | `surge=3s/300ms/150ms` |
    ///
    /// Times have a unit: `us`, `ms` or `s`. Shares are 0 to 1 or 0% to 100%.
    ///
    /// # Errors
    /// [`InvalidConditions`] names the first wrong part and what is allowed.
    fn from_str(text: &str) -> Result<Self, InvalidConditions> {
        let mut spec = Spec { conditions: Self::perfect(), loss: None, burst: None };
        let mut seen: Vec<&str> = Vec::new();
        for (place, part) in text.split(',').map(str::trim).enumerate() {
            let preset = Self::PRESETS.into_iter().find(|(name, _)| *name == part);
            match (preset, part.split_once('=')) {
                (Some((_, preset)), _) if place == 0 => spec.conditions = preset,
                (None, Some((key, value))) if !seen.contains(&key) => {
                    seen.push(key);
                    spec.set(part, key, value)?;
                }
                _ => return Err(wrong(part, PARTS)),
            }
        }
        spec.finish()
    }
}

fn wrong(part: &str, allowed: &'static str) -> InvalidConditions {
    InvalidConditions { part: part.to_owned(), allowed }
}

/// What was read so far.
struct Spec<'a> {
    conditions: Conditions,
    /// Waits for a burst, which may come later.
    loss: Option<f64>,
    /// The whole part, and the mean length in packets.
    burst: Option<(&'a str, f64)>,
}

impl<'a> Spec<'a> {
    fn set(&mut self, part: &'a str, key: &str, value: &'a str) -> Result<(), InvalidConditions> {
        let conditions = &mut self.conditions;
        match key {
            "delay" => conditions.delay = time(value).ok_or_else(|| wrong(part, DELAY))?,
            "jitter" => conditions.jitter = jitter(value).ok_or_else(|| wrong(part, JITTER))?,
            "loss" => self.loss = Some(share(value).ok_or_else(|| wrong(part, LOSS))?),
            "burst" if value.contains('/') => {
                conditions.loss = bursts(value).ok_or_else(|| wrong(part, BURST))?;
                self.burst = Some((part, 0.0));
            }
            "burst" => {
                let length = number(value).filter(|length| *length >= 1.0);
                self.burst = Some((part, length.ok_or_else(|| wrong(part, BURST))?));
            }
            "duplicate" => {
                conditions.duplicate = share(value).ok_or_else(|| wrong(part, DUPLICATE))?;
            }
            "reorder" => {
                conditions.reorder = Some(reorder(value).ok_or_else(|| wrong(part, REORDER))?);
            }
            "surge" => {
                conditions.surge = Some(surge(value).ok_or_else(|| wrong(part, SURGE))?);
            }
            "rate" => conditions.rate = Some(rate(value).ok_or_else(|| wrong(part, RATE))?),
            _ => return Err(wrong(part, PARTS)),
        }
        Ok(())
    }

    /// Brings loss and bursts together.
    fn finish(mut self) -> Result<Conditions, InvalidConditions> {
        match (self.loss, self.burst) {
            (None, None) => {}
            (Some(probability), None) => self.conditions.loss = Loss::Random { probability },
            (Some(loss), Some((part, length))) if length >= 1.0 => {
                let leave = 1.0 / length;
                // The share of bad packets is enter / (enter + leave).
                let enter = leave * loss / (1.0 - loss);
                if !(0.0..=1.0).contains(&enter) {
                    return Err(wrong(part, BURST_TOO_SHORT));
                }
                self.conditions.loss = Loss::Bursts { enter, leave, loss_good: 0.0, loss_bad: 1.0 };
            }
            // All four numbers, and they are set already.
            (None, Some((_, 0.0))) => {}
            (_, Some((part, _))) => return Err(wrong(part, BURST)),
        }
        Ok(self.conditions)
    }
}

fn jitter(value: &str) -> Option<Jitter> {
    Some(match value.split_once('/') {
        Some((p95, "queues")) => Jitter::Queues { p95: time(p95)? },
        Some((max, correlation)) => {
            Jitter::Clumped { max: time(max)?, correlation: share(correlation)? }
        }
        None => Jitter::Independent { max: time(value)? },
    })
}

fn bursts(value: &str) -> Option<Loss> {
    let mut shares = value.split('/').map(share);
    let mut next = || shares.next().flatten();
    let (enter, leave, loss_good, loss_bad) = (next()?, next()?, next()?, next()?);
    shares.next().is_none().then_some(Loss::Bursts { enter, leave, loss_good, loss_bad })
}

fn reorder(value: &str) -> Option<Reorder> {
    let (probability, extra) = value.split_once('/')?;
    Some(Reorder { probability: share(probability)?, extra: time(extra)? })
}

fn surge(value: &str) -> Option<Surge> {
    let mut times = value.split('/').map(time);
    let mut next = || times.next().flatten();
    let (every, lasts, max) = (next()?, next()?, next()?);
    times.next().is_none().then_some(Surge { every, lasts, max })
}

fn rate(value: &str) -> Option<Rate> {
    let (rate, queue) = match value.split_once('/') {
        Some((rate, queue)) => (rate, Some(queue)),
        None => (value, None),
    };
    let bits = |unit: &str, size| {
        let bits = decimal(rate.strip_suffix(unit)?, size)?;
        Some(bits / 8)
    };
    let bytes_per_second =
        bits("kbit", 1000).or_else(|| bits("Mbit", 1_000_000)).or_else(|| bytes(rate))?;
    let bytes_per_second = u64::try_from(bytes_per_second).ok()?;
    let queue_bytes = match queue {
        Some(queue) => u64::try_from(bytes(queue)?).ok()?,
        None => (bytes_per_second / 1000).saturating_mul(QUEUE_MILLIS).max(QUEUE_MIN),
    };
    Some(Rate { bytes_per_second, queue_bytes })
}

fn bytes(value: &str) -> Option<u128> {
    let units = [("kB", 1000), ("MB", 1_000_000), ("B", 1)];
    units.into_iter().find_map(|(unit, size)| decimal(value.strip_suffix(unit)?, size))
}

fn time(value: &str) -> Option<Duration> {
    let units = [("us", 1), ("ms", 1000), ("s", 1_000_000)];
    let micros =
        units.into_iter().find_map(|(unit, size)| decimal(value.strip_suffix(unit)?, size))?;
    let seconds = u64::try_from(micros / 1_000_000).ok()?;
    let rest = u32::try_from(micros % 1_000_000).ok()?;
    Some(Duration::new(seconds, rest * 1000))
}

/// A decimal number times `size`, a power of ten, cut to a whole number.
fn decimal(text: &str, size: u128) -> Option<u128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let mut value = whole.parse::<u128>().ok()?.checked_mul(size)?;
    let mut place = size;
    for digit in fraction.chars() {
        place /= 10;
        value = value.checked_add(u128::from(digit.to_digit(10)?) * place)?;
    }
    Some(value)
}

/// A share as a part of one or in percent.
fn share(text: &str) -> Option<f64> {
    let share = match text.strip_suffix('%') {
        Some(percent) => number(percent)? / 100.0,
        None => number(text)?,
    };
    (0.0..=1.0).contains(&share).then_some(share)
}

/// A finite number in digits.
fn number(text: &str) -> Option<f64> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    if !text.bytes().all(is_digit) {
        return None;
    }
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

impl fmt::Display for Conditions {
    /// A text that [`str::parse`] reads as the same conditions, [validated](Conditions::validated)
    /// and in whole microseconds: a preset's name if it is one, or else the parts that are not as in
    /// [`Conditions::perfect`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let conditions = self.clone().validated();
        if let Some((name, _)) = Self::PRESETS.iter().find(|(_, preset)| *preset == conditions) {
            return f.write_str(name);
        }
        let Self { delay, jitter, loss, duplicate, reorder, rate, surge } = conditions;
        let mut parts = vec![format!("delay={}", Time(delay))];
        match jitter {
            Jitter::None => {}
            Jitter::Independent { max } => parts.push(format!("jitter={}", Time(max))),
            Jitter::Clumped { max, correlation } => {
                parts.push(format!("jitter={}/{}", Time(max), Share(correlation)));
            }
            Jitter::Queues { p95 } => parts.push(format!("jitter={}/queues", Time(p95))),
        }
        match loss {
            Loss::None => {}
            Loss::Random { probability } => parts.push(format!("loss={}", Share(probability))),
            Loss::Bursts { enter, leave, loss_good, loss_bad } => parts.push(format!(
                "burst={}/{}/{}/{}",
                Share(enter),
                Share(leave),
                Share(loss_good),
                Share(loss_bad)
            )),
        }
        if duplicate > 0.0 {
            parts.push(format!("duplicate={}", Share(duplicate)));
        }
        if let Some(Reorder { probability, extra }) = reorder {
            parts.push(format!("reorder={}/{}", Share(probability), Time(extra)));
        }
        if let Some(Rate { bytes_per_second, queue_bytes }) = rate {
            parts.push(format!("rate={}/{}", Bytes(bytes_per_second), Bytes(queue_bytes)));
        }
        if let Some(Surge { every, lasts, max }) = surge {
            parts.push(format!("surge={}/{}/{}", Time(every), Time(lasts), Time(max)));
        }
        f.write_str(&parts.join(","))
    }
}

struct Time(Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        if micros.is_multiple_of(1000) {
            write!(f, "{}ms", micros / 1000)
        } else {
            write!(f, "{micros}us")
        }
    }
}

struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) {
            write!(f, "{}kB", self.0 / 1000)
        } else {
            write!(f, "{}B", self.0)
        }
    }
}

struct Share(f64);

impl fmt::Display for Share {
    /// In percent where four decimals tell all of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not -0.
        let share = self.0.abs();
        let percent = format!("{:.4}", share * 100.0);
        let percent = percent.trim_end_matches('0').trim_end_matches('.');
        if number(percent).is_some_and(|percent| percent / 100.0 == share) {
            write!(f, "{percent}%")
        } else {
            write!(f, "{share}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Conditions {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn every_part_is_read() {
        let ms = Duration::from_millis;
        let perfect = Conditions::perfect;
        for (text, conditions) in [
            ("delay=40ms", perfect().with_delay(ms(40))),
            ("delay=0.5s", perfect().with_delay(ms(500))),
            ("delay=1.5ms", perfect().with_delay(Duration::from_micros(1500))),
            ("delay=300us", perfect().with_delay(Duration::from_micros(300))),
            ("jitter=10ms", perfect().with_jitter(ms(10))),
            ("jitter=10ms/60%", perfect().with_clumped_jitter(ms(10), 0.6)),
            ("loss=5%", perfect().with_loss(0.05)),
            ("loss=0.05", perfect().with_loss(0.05)),
            ("burst=10%/50%/0%/100%", perfect().with_bursts(0.1, 0.5)),
            ("loss=50%,burst=4", perfect().with_bursts(0.25, 0.25)),
            ("burst=4,loss=50%", perfect().with_bursts(0.25, 0.25)),
            ("duplicate=1%", perfect().with_duplicates(0.01)),
            ("reorder=1%/40ms", perfect().with_reorder(0.01, ms(40))),
            ("rate=60kB/30kB", perfect().with_rate(60_000, 30_000)),
            ("rate=480kbit/100B", perfect().with_rate(60_000, 100)),
            ("rate=1.2MB", perfect().with_rate(1_200_000, 300_000)),
            ("rate=8kbit", perfect().with_rate(1000, 10_000)),
            (" delay=1s , loss=0% ", perfect().with_delay(ms(1000)).with_loss(0.0)),
            ("wifi,delay=80ms", Conditions::wifi().with_delay(ms(80))),
            ("mobile,loss=0.5", Conditions::mobile().with_loss(0.5)),
        ] {
            assert_eq!(parse(text), conditions, "{text}");
        }
    }

    #[test]
    fn presets_are_read_and_shown_by_their_names() {
        for (name, preset) in Conditions::PRESETS {
            assert_eq!(parse(name), preset);
            assert_eq!(preset.to_string(), name);
        }
    }

    #[test]
    fn conditions_are_shown_as_people_write_them() {
        for text in [
            "delay=40ms,jitter=10ms,loss=5%,duplicate=1%,reorder=1%/40ms,rate=60kB/30kB",
            "delay=300us,jitter=7ms/7%,burst=0.2%/30%/0%/60%,rate=1B/1B",
            "delay=0ms,loss=0.123456789",
        ] {
            assert_eq!(parse(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_allowed() {
        for (text, part, allowed) in [
            ("", "", PARTS),
            ("hotel", "hotel", PARTS),
            ("delay=1ms,wifi", "wifi", PARTS),
            ("wifi,lan", "lan", PARTS),
            ("delay=1ms,", "", PARTS),
            ("delay=1ms,delay=2ms", "delay=2ms", PARTS),
            ("lag=1ms", "lag=1ms", PARTS),
            ("loss=5%,delay=40", "delay=40", DELAY),
            ("delay=-1ms", "delay=-1ms", DELAY),
            ("delay=99999999999999999999s", "delay=99999999999999999999s", DELAY),
            ("jitter=10ms/2", "jitter=10ms/2", JITTER),
            ("loss=101%", "loss=101%", LOSS),
            ("loss=NaN", "loss=NaN", LOSS),
            ("loss=1e-3", "loss=1e-3", LOSS),
            ("burst=6", "burst=6", BURST),
            ("loss=5%,burst=0.5", "burst=0.5", BURST),
            ("loss=90%,burst=2", "burst=2", BURST_TOO_SHORT),
            ("loss=100%,burst=2", "burst=2", BURST_TOO_SHORT),
            ("loss=5%,burst=1%/2%/3%/4%", "burst=1%/2%/3%/4%", BURST),
            ("burst=1%/2%/3%", "burst=1%/2%/3%", BURST),
            ("burst=1%/2%/3%/4%/5%", "burst=1%/2%/3%/4%/5%", BURST),
            ("duplicate=", "duplicate=", DUPLICATE),
            ("reorder=1%", "reorder=1%", REORDER),
            ("rate=60", "rate=60", RATE),
            ("rate=60kB/30kbit", "rate=60kB/30kbit", RATE),
        ] {
            let expected = InvalidConditions { part: part.to_owned(), allowed };
            assert_eq!(text.parse::<Conditions>(), Err(expected), "{text}");
        }
        let error = "delay=soon".parse::<Conditions>().unwrap_err().to_string();
        assert!(error.contains("delay=soon") && error.contains("40ms"), "{error}");
    }
}
