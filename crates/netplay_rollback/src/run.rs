//! Inputs of some players over consecutive ticks, each as its difference from the tick before: see
//! [`crate::protocol`].

use crate::bits::{BitReader, BitWriter};
use crate::input::{Cell, InputBytes, Tick};
use crate::limits::INPUT_MAX;

/// Appends one cell after the one of the tick before.
fn put_cell(out: &mut BitWriter<'_>, before: &Cell, cell: &Cell) {
    debug_assert!(*cell != Cell::Missing, "only what is known is sent");
    if before == cell {
        return out.bit(false);
    }
    out.bit(true);
    match (before, cell) {
        (Cell::Given(before), Cell::Given(input)) if flips_are_shorter(before, input) => {
            out.bit(false);
            put_flips(out, before.as_slice(), input.as_slice());
        }
        (_, Cell::Given(input)) => {
            out.bits(0b11, 2);
            let bytes = input.as_slice();
            out.bits(bytes.len() as u8, 8);
            bytes.iter().for_each(|byte| out.bits(*byte, 8));
        }
        (_, Cell::Absent | Cell::Missing) => out.bits(0b01, 2),
    }
}

/// Whether to tell which bits flip, and not the bytes.
fn flips_are_shorter(before: &InputBytes, input: &InputBytes) -> bool {
    let (before, bytes) = (before.as_slice(), input.as_slice());
    if before.len() != bytes.len() {
        return false;
    }
    let bits = |flips: u8| match flips.count_ones() {
        0 => 0,
        1 => 4,
        _ => 9,
    };
    let flips: usize = before.iter().zip(bytes).map(|(old, new)| bits(old ^ new)).sum();
    let marks = if bytes.len() > 1 { bytes.len() } else { 0 };
    2 + marks + flips <= 3 + 8 + bytes.len() * 8
}

fn put_flips(out: &mut BitWriter<'_>, before: &[u8], bytes: &[u8]) {
    for (old, new) in before.iter().zip(bytes) {
        let flips = old ^ new;
        if bytes.len() > 1 {
            out.bit(flips != 0);
        }
        if flips == 0 {
            continue;
        }
        let many = flips.count_ones() > 1;
        out.bit(many);
        if many {
            out.bits(flips, 8);
        } else {
            out.bits(flips.trailing_zeros() as u8, 3);
        }
    }
}

/// Reads one cell after the one of the tick before.
fn read_cell(reader: &mut BitReader<'_>, before: &Cell) -> Option<Cell> {
    if !reader.bit()? {
        return Some(before.clone());
    }
    if !reader.bit()? {
        let Cell::Given(before) = before else { return None };
        return read_flips(reader, before.as_slice());
    }
    if !reader.bit()? {
        return Some(Cell::Absent);
    }
    let len = usize::from(reader.bits(8)?);
    if len > INPUT_MAX {
        return None;
    }
    let mut bytes = [0; INPUT_MAX];
    for byte in &mut bytes[..len] {
        *byte = reader.bits(8)?;
    }
    Some(Cell::Given(InputBytes::new(&bytes[..len])?))
}

fn read_flips(reader: &mut BitReader<'_>, before: &[u8]) -> Option<Cell> {
    let mut bytes = [0; INPUT_MAX];
    let bytes = &mut bytes[..before.len()];
    bytes.copy_from_slice(before);
    let single = bytes.len() == 1;
    for byte in bytes.iter_mut() {
        if !single && !reader.bit()? {
            continue;
        }
        *byte ^= if reader.bit()? { reader.bits(8)? } else { 1 << reader.bits(3)? };
    }
    Some(Cell::Given(InputBytes::new(bytes)?))
}

/// Appends the cells of ticks `first` to `last` as far as they fit `max` bytes; gives how many ticks
/// did. `cell` gives what is known of a tick and player, for `first - 1` too.
pub(crate) fn put<'a>(
    out: &mut Vec<u8>,
    max: usize,
    (first, last): (Tick, Tick),
    players: usize,
    cell: impl Fn(Tick, usize) -> &'a Cell,
) -> usize {
    let mut out = BitWriter::after(out);
    let mut count = 0;
    for tick in first..=last {
        let start = out.position();
        for player in 0..players {
            put_cell(&mut out, cell(tick - 1, player), cell(tick, player));
        }
        if out.position() > max * 8 {
            out.truncate(start);
            break;
        }
        count += 1;
    }
    count
}

/// Whether no cell differs from the one before it: then a sender leaves the bits out.
pub(crate) fn is_idle<'a>(
    (first, last): (Tick, Tick),
    players: usize,
    cell: impl Fn(Tick, usize) -> &'a Cell,
) -> bool {
    (first..=last)
        .all(|tick| (0..players).all(|player| cell(tick - 1, player) == cell(tick, player)))
}

/// Reads `count` ticks after `before`, the cells of the tick before, and gives each to `each` as
/// (index of the tick, player, cell). `None` if the bytes are anything else.
pub(crate) fn read(
    bytes: &[u8],
    count: usize,
    before: &mut [Cell],
    mut each: impl FnMut(usize, usize, &Cell),
) -> Option<()> {
    let mut reader = BitReader::new(bytes);
    for tick in 0..count {
        for (player, cell) in before.iter_mut().enumerate() {
            *cell = read_cell(&mut reader, cell)?;
            each(tick, player, cell);
        }
    }
    reader.is_finished().then_some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn given(bytes: &[u8]) -> Cell {
        Cell::Given(InputBytes::new(bytes).unwrap())
    }

    #[test]
    fn a_button_that_is_pressed_costs_six_bits_and_one_that_is_held_one() {
        let cells = [given(&[0]), given(&[4]), given(&[4]), given(&[0])];
        let mut bytes = Vec::new();
        let count = put(&mut bytes, 99, (1, 3), 1, |tick, _| &cells[tick as usize]);
        // Each change from its first bit: 1 0, 0 (one bit flips), 0 1 0 (the third).
        assert_eq!((bytes, count), (vec![0b1001_0001, 0b0000_1000], 3));
    }

    fn any_cell() -> impl Strategy<Value = Cell> {
        prop_oneof![
            1 => Just(Cell::Absent),
            3 => prop::collection::vec(any::<u8>(), 0..4).prop_map(|bytes| given(&bytes)),
            6 => any::<u8>().prop_map(|byte| given(&[byte & 0x81])),
            1 => prop::collection::vec(any::<u8>(), 0..=INPUT_MAX).prop_map(|bytes| given(&bytes)),
        ]
    }

    proptest! {
        #[test]
        fn every_run_comes_back(
            players in 1..4_usize, cells in prop::collection::vec(any_cell(), 8..80), max in 0..200_usize
        ) {
            let ticks = cells.len() / players;
            let cell = |tick: Tick, player: usize| &cells[tick as usize * players + player];
            let mut bytes = vec![7];
            let count = put(&mut bytes, max + 1, (1, ticks as Tick - 1), players, cell);
            prop_assert!(bytes.len() <= max + 1);
            let mut before = cells[..players].to_vec();
            let mut seen = Vec::new();
            let read = read(&bytes[1..], count, &mut before, |tick, player, cell| {
                seen.push((tick, player, cell.clone()));
            });
            prop_assert_eq!(read, Some(()));
            prop_assert_eq!(seen.len(), count * players);
            for (tick, player, found) in seen {
                prop_assert_eq!(&found, cell(tick as Tick + 1, player));
            }
        }

        #[test]
        fn any_bytes_are_a_run_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200), count in 0..99_usize) {
            let mut before = vec![given(&[1]), Cell::Absent];
            let _ = read(&bytes, count, &mut before, |_, _, _| {});
        }
    }
}
