//! The message types that a game registered: their numbers, their hash, their differences.
//!
//! Types are sorted by name, so the order of registration does not matter. Two peers compare hashes;
//! only when these differ do they exchange the tables, so that the refusal can name what differs.

use core::fmt;

use thiserror::Error;

use crate::Lane;
use crate::cursor::{ReadError, Reader, put_text};
use crate::frame::MessageId;
use crate::limits::{CONTROL_MAX, SCHEMA_ENTRIES_MAX, TYPE_NAME_MAX};

/// One message type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SchemaEntry {
    /// The type's name, equal on all peers.
    pub name: String,
    /// The lane that carries it.
    pub lane: Lane,
}

/// Why a message type cannot be registered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// Two types have one name.
    #[error("the message type {0:?} is registered twice")]
    Duplicate(String),
    /// There are too many.
    #[error("more than {SCHEMA_ENTRIES_MAX} message types")]
    TooMany,
    /// The table does not fit a control message.
    #[error("the names of all message types together exceed {CONTROL_MAX} bytes")]
    TooLarge,
    /// The name has no or too many bytes.
    #[error("the name of message type {0:?} has no or more than {TYPE_NAME_MAX} bytes")]
    Name(String),
}

/// The message types of a game, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    entries: Vec<SchemaEntry>,
}

impl Schema {
    /// Sorts and checks a game's message types.
    ///
    /// # Errors
    /// [`SchemaError`] for a name that stands twice, is empty or too long, or for too many types.
    pub fn new(mut entries: Vec<SchemaEntry>) -> Result<Self, SchemaError> {
        if entries.len() > SCHEMA_ENTRIES_MAX {
            return Err(SchemaError::TooMany);
        }
        let table: usize = entries.iter().map(|entry| entry.name.len() + 2).sum();
        if table + 3 > CONTROL_MAX {
            return Err(SchemaError::TooLarge);
        }
        entries.sort();
        for entry in &entries {
            if entry.name.is_empty() || entry.name.len() > TYPE_NAME_MAX {
                return Err(SchemaError::Name(entry.name.clone()));
            }
        }
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(SchemaError::Duplicate(pair[0].name.clone()));
        }
        Ok(Self { entries })
    }

    /// The types in the order of their numbers.
    pub fn entries(&self) -> &[SchemaEntry] {
        &self.entries
    }

    /// The number of the type with this name.
    pub fn id_of(&self, name: &str) -> Option<MessageId> {
        let place = self.entries.binary_search_by(|entry| entry.name.as_str().cmp(name)).ok()?;
        Some(MessageId(u16::try_from(place).ok()?))
    }

    /// The type with this number.
    pub fn entry(&self, id: MessageId) -> Option<&SchemaEntry> {
        self.entries.get(usize::from(id.0))
    }

    /// A hash of names and lanes: XXH3 with its fixed default seed over the table's wire form.
    pub fn hash(&self) -> u64 {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        xxhash_rust::xxh3::xxh3_64(&bytes)
    }

    /// Writes the table: count, then name and lane of each.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.entries.len() as u16).to_le_bytes());
        for entry in &self.entries {
            put_text(out, &entry.name);
            out.push(entry.lane.id());
        }
    }

    /// Reads a table.
    ///
    /// # Errors
    /// [`ReadError`] for too many entries, unknown lanes, bad names, or a table that is not sorted.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        let count = usize::from(reader.u16()?);
        if count > SCHEMA_ENTRIES_MAX {
            return Err(ReadError::TooLong { len: count, max: SCHEMA_ENTRIES_MAX });
        }
        let mut entries = Vec::new();
        for _ in 0..count {
            let name = reader.text(TYPE_NAME_MAX)?.to_owned();
            let lane = reader.u8()?;
            let lane = Lane::from_id(lane)
                .ok_or(ReadError::Unknown { what: "lane", value: lane.into() })?;
            entries.push(SchemaEntry { name, lane });
        }
        let sorted = entries.is_sorted();
        let schema = Self::new(entries).map_err(|_| ReadError::Text)?;
        if sorted { Ok(schema) } else { Err(ReadError::Text) }
    }

    /// What differs between our table and theirs; `None` if nothing does.
    pub fn difference(&self, theirs: &Self) -> Option<SchemaDifference> {
        let missing_in = |ours: &Self, theirs: &Self| {
            let missing = ours.entries.iter().filter(|entry| theirs.id_of(&entry.name).is_none());
            missing.map(|entry| entry.name.clone()).collect::<Vec<_>>()
        };
        let lanes = self.entries.iter().filter_map(|ours| {
            let theirs = theirs.entry(theirs.id_of(&ours.name)?)?;
            (ours.lane != theirs.lane).then(|| LaneDifference {
                name: ours.name.clone(),
                ours: ours.lane,
                theirs: theirs.lane,
            })
        });
        let difference = SchemaDifference {
            only_ours: missing_in(self, theirs),
            only_theirs: missing_in(theirs, self),
            lanes: lanes.collect(),
        };
        (difference != SchemaDifference::default()).then_some(difference)
    }
}

/// A message type that two games carry on different lanes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneDifference {
    /// The type's name.
    pub name: String,
    /// Our lane.
    pub ours: Lane,
    /// Their lane.
    pub theirs: Lane,
}

/// What differs between two schemas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchemaDifference {
    /// Types that only we have.
    pub only_ours: Vec<String>,
    /// Types that only they have.
    pub only_theirs: Vec<String>,
    /// Types on different lanes.
    pub lanes: Vec<LaneDifference>,
}

impl fmt::Display for SchemaDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        if !self.only_ours.is_empty() {
            write!(f, "only we have {}", self.only_ours.join(", "))?;
            separator = "; ";
        }
        if !self.only_theirs.is_empty() {
            write!(f, "{separator}only they have {}", self.only_theirs.join(", "))?;
            separator = "; ";
        }
        for lane in &self.lanes {
            write!(f, "{separator}{} is {} here and {} there", lane.name, lane.ours, lane.theirs)?;
            separator = "; ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(entries: &[(&str, Lane)]) -> Schema {
        let entries = entries.iter();
        let entries = entries.map(|(name, lane)| SchemaEntry { name: (*name).into(), lane: *lane });
        Schema::new(entries.collect()).unwrap()
    }

    #[test]
    fn golden_bytes_and_hash() {
        let schema = schema(&[("b", Lane::Reliable), ("a", Lane::Unreliable)]);
        let mut bytes = Vec::new();
        schema.write(&mut bytes);
        assert_eq!(bytes, [2, 0, 1, b'a', 0, 1, b'b', 2]);
        assert_eq!(schema.hash(), 0x39cb_9991_8f62_e217);
        assert_eq!(Schema::read(&mut Reader::new(&bytes)), Ok(schema));
    }

    #[test]
    fn numbers_do_not_depend_on_the_order_of_registration() {
        let one = schema(&[("x", Lane::Reliable), ("a", Lane::Unreliable)]);
        let two = schema(&[("a", Lane::Unreliable), ("x", Lane::Reliable)]);
        assert_eq!(one, two);
        assert_eq!(one.id_of("x"), Some(MessageId(1)));
        assert_eq!(one.entry(MessageId(1)).unwrap().name, "x");
        assert_eq!(one.id_of("y"), None);
    }

    #[test]
    fn a_difference_names_every_type() {
        let ours = schema(&[("a", Lane::Reliable), ("b", Lane::Reliable)]);
        let theirs = schema(&[("a", Lane::Unreliable), ("c", Lane::Reliable)]);
        assert_eq!(
            ours.difference(&theirs).unwrap().to_string(),
            "only we have b; only they have c; a is reliable here and unreliable there"
        );
        assert_eq!(ours.difference(&ours), None);
    }

    #[test]
    fn unsorted_doubled_and_oversized_tables_are_refused() {
        assert!(Schema::read(&mut Reader::new(&[2, 0, 1, b'b', 1, 1, b'a', 0])).is_err());
        assert!(Schema::read(&mut Reader::new(&[2, 0, 1, b'a', 1, 1, b'a', 1])).is_err());
        assert!(Schema::read(&mut Reader::new(&[0xFF, 0xFF])).is_err());
        let twice = SchemaEntry { name: "a".into(), lane: Lane::Reliable };
        assert_eq!(
            Schema::new(vec![twice.clone(), twice]),
            Err(SchemaError::Duplicate("a".into()))
        );
    }
}
