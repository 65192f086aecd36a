//! Rows as tables and as JSON.

use std::io::Write as _;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::Result;
use crate::stats::rounded;

/// A row: its columns in their order. The first is a name, what is not known is `None`.
pub(crate) type Row = Vec<(&'static str, Cell)>;

/// What stands in a column.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Cell {
    Name(String),
    Count(u64),
    Number(Option<f64>),
}

impl Cell {
    fn text(&self) -> String {
        match self {
            Self::Name(name) => name.clone(),
            Self::Count(count) => count.to_string(),
            Self::Number(Some(number)) if *number >= 1000.0 => format!("{number:.0}"),
            Self::Number(Some(number)) => format!("{number:.2}"),
            Self::Number(None) => "-".to_owned(),
        }
    }
}

pub(crate) fn name(name: impl ToString) -> Cell {
    Cell::Name(name.to_string())
}

pub(crate) fn count(count: impl TryInto<u64>) -> Cell {
    Cell::Count(count.try_into().unwrap_or(u64::MAX))
}

pub(crate) fn number(number: Option<f64>) -> Cell {
    Cell::Number(number.filter(|number| number.is_finite()).map(rounded))
}

/// Rows of the same columns as text, one a line.
pub(crate) fn table(rows: &[Row]) -> String {
    let Some(first) = rows.first() else { return String::new() };
    let header = first.iter().map(|(column, _)| (*column).to_owned()).collect::<Vec<_>>();
    let cells = rows.iter().map(|row| row.iter().map(|(_, cell)| cell.text()).collect());
    let lines: Vec<Vec<String>> = std::iter::once(header).chain(cells).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..first.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            // Names to the left, numbers to the right.
            text += &match column {
                0 => format!("{cell:<width$}"),
                _ => format!("  {cell:>width$}"),
            };
        }
        text.push('\n');
    }
    text
}

/// Prints tables, an empty line between two, then if asked for the JSON line: the bench, and the rows of each
/// table under its name.
///
/// # Errors
/// If standard output cannot be written to.
pub(crate) fn print(bench: &str, tables: &[(&str, Vec<Row>)], json: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let texts: Vec<String> = tables.iter().map(|(_, rows)| table(rows)).collect();
    out.write_all(texts.join("\n").as_bytes())?;
    if json {
        let mut line = Map::from_iter([("bench".to_owned(), Value::from(bench))]);
        for (name, rows) in tables {
            let object = |row: &Row| -> Result<Value> {
                let cells = row
                    .iter()
                    .map(|(column, cell)| Ok(((*column).to_owned(), serde_json::to_value(cell)?)));
                Ok(Value::Object(cells.collect::<Result<_>>()?))
            };
            let rows = rows.iter().map(object).collect::<Result<Vec<_>>>()?;
            line.insert((*name).to_owned(), Value::Array(rows));
        }
        writeln!(out, "{}", Value::Object(line))?;
    }
    Ok(out.flush()?)
}

/// Says on standard error how far a run has come.
pub(crate) fn progress(began: std::time::Instant, text: &str) {
    eprintln!("[{:4.0} s] {text}", began.elapsed().as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_shows_what_is_missing() {
        let row = |text: &str, value| vec![("server", name(text)), ("p99_ms", number(value))];
        let text = table(&[row("netplay", Some(1.236)), row("x", None)]);
        assert_eq!(text, "server   p99_ms\nnetplay    1.24\nx             -\n");
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn numbers_that_are_none_are_not_shown_as_numbers() {
        assert_eq!(number(Some(f64::NAN)), Cell::Number(None));
        assert_eq!(serde_json::to_string(&number(Some(0.128))).unwrap(), "0.13");
        assert_eq!(serde_json::to_string(&number(None)).unwrap(), "null");
    }
}
