//! Rows as a table and as JSON, and the progress line.

use std::io::{IsTerminal, Write};

use serde::Serialize;

use crate::Result;

/// A row of a table.
pub trait Row: Serialize {
    /// Names of the columns, in the order of [`Row::cells`] and of the JSON.
    const COLUMNS: &'static [&'static str];

    /// The text of each column.
    fn cells(&self) -> Vec<String>;
}

/// One stack's round-trip times.
#[derive(Serialize)]
pub struct LatencyRow {
    /// Name of the stack.
    pub stack: String,
    /// Median round trip, microseconds.
    pub p50_us: f64,
    /// 99th percentile, microseconds.
    pub p99_us: f64,
    /// Round trips measured in all repeats.
    pub samples: u64,
    /// Repeats that gave a result.
    pub repeats: usize,
    /// Pings without a reply in all repeats.
    pub lost: u64,
    /// Ratio to raw UDP, if that was measured.
    pub x_raw: Option<f64>,
}

impl Row for LatencyRow {
    const COLUMNS: &'static [&'static str] =
        &["stack", "p50_us", "p99_us", "samples", "repeats", "lost", "x_raw"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.stack.clone(),
            format!("{:.1}", self.p50_us),
            format!("{:.1}", self.p99_us),
            self.samples.to_string(),
            self.repeats.to_string(),
            self.lost.to_string(),
            optional(self.x_raw, 2),
        ]
    }
}

/// One stack's connect times and memory.
#[derive(Serialize)]
pub struct ConnectRow {
    /// Name of the stack.
    pub stack: String,
    /// Median time to the first message, milliseconds; nothing if no connection was made.
    pub p50_ms: Option<f64>,
    /// 90th percentile, milliseconds; nothing if no connection was made.
    pub p90_ms: Option<f64>,
    /// Resident memory per connected peer, KiB; nothing where the system does not tell it.
    pub kib_per_peer: Option<f64>,
    /// Connections measured in all repeats.
    pub connects: u64,
    /// Connections that were not made in all repeats.
    pub failed: u64,
    /// Repeats that gave a result.
    pub repeats: usize,
    /// Ratio to matchbox, if that was measured.
    pub x_matchbox: Option<f64>,
}

impl Row for ConnectRow {
    const COLUMNS: &'static [&'static str] = &[
        "stack",
        "p50_ms",
        "p90_ms",
        "kib_per_peer",
        "connects",
        "failed",
        "repeats",
        "x_matchbox",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.stack.clone(),
            optional(self.p50_ms, 1),
            optional(self.p90_ms, 1),
            optional(self.kib_per_peer, 0),
            self.connects.to_string(),
            self.failed.to_string(),
            self.repeats.to_string(),
            optional(self.x_matchbox, 3),
        ]
    }
}

/// A number, or a dash.
pub fn optional(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"))
}

/// Prints the table and, if asked for, the JSON line.
///
/// # Errors
///
/// If standard output cannot be written to.
pub fn print<R: Row>(bench: &str, rows: &[R], json: bool) -> Result<()> {
    print_all(&[table(rows)], json.then_some(&Line { bench, rows }))
}

/// Prints tables, an empty line between two, and the JSON line if there is one.
///
/// # Errors
///
/// If standard output cannot be written to.
pub fn print_all(tables: &[String], line: Option<&impl Serialize>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(tables.join("\n").as_bytes())?;
    if let Some(line) = line {
        writeln!(out, "{}", serde_json::to_string(line)?)?;
    }
    Ok(out.flush()?)
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Line<'a, R> {
    bench: &'a str,
    rows: &'a [R],
}

/// Rows as text, one a line.
pub fn table<R: Row>(rows: &[R]) -> String {
    let header = R::COLUMNS.iter().map(ToString::to_string).collect();
    let lines: Vec<Vec<String>> =
        std::iter::once(header).chain(rows.iter().map(Row::cells)).collect();
    let widths: Vec<usize> = (0..R::COLUMNS.len())
        .map(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for line in &lines {
        for (column, cell) in line.iter().enumerate() {
            let width = widths[column];
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

/// How far a bench has come, on standard error: one line that is redrawn on a terminal, one line
/// per step elsewhere.
pub struct Progress {
    steps: u32,
    done: u32,
    terminal: bool,
}

impl Progress {
    /// A bar of `steps` steps.
    pub fn new(steps: u32) -> Self {
        Self { steps, done: 0, terminal: std::io::stderr().is_terminal() }
    }

    /// Shows that the step `what` begins.
    pub fn begin(&mut self, what: &str) {
        const WIDTH: u32 = 30;
        let filled = WIDTH * self.done / self.steps.max(1);
        let bar: String = (0..WIDTH).map(|i| if i < filled { '#' } else { '.' }).collect();
        let line = format!("[{bar}] {}/{} {what}", self.done, self.steps);
        if self.terminal {
            eprint!("\r{line:<79}");
        } else {
            eprintln!("{line}");
        }
        self.done += 1;
    }

    /// Prints a message without tearing the bar.
    pub fn say(&self, message: &str) {
        self.clear();
        eprintln!("{message}");
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        if self.terminal {
            eprint!("\r{:<79}\r", "");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn latency(x_raw: Option<f64>) -> LatencyRow {
        LatencyRow {
            stack: "raw_udp".into(),
            p50_us: 10.25,
            p99_us: 31.0,
            samples: 100_000,
            repeats: 5,
            lost: 0,
            x_raw,
        }
    }

    fn connect() -> ConnectRow {
        ConnectRow {
            stack: "matchbox".into(),
            p50_ms: Some(607.0),
            p90_ms: Some(609.5),
            kib_per_peer: None,
            connects: 50,
            failed: 1,
            repeats: 5,
            x_matchbox: Some(1.0),
        }
    }

    fn json_line<R: Row>(bench: &str, rows: &[R]) -> String {
        serde_json::to_string(&Line { bench, rows }).unwrap()
    }

    /// Every row has exactly the columns, in their order, and no value is nested.
    fn assert_flat<R: Row>(bench: &str, row: R) {
        assert_eq!(row.cells().len(), R::COLUMNS.len());
        let line = json_line(bench, &[row]);
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["bench"], bench);
        let rows = value["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 1);
        let object = rows[0].as_object().unwrap();
        assert_eq!(object.len(), R::COLUMNS.len());
        let mut from = 0;
        for column in R::COLUMNS {
            let value = &object[*column];
            assert!(!value.is_object() && !value.is_array(), "{column} is nested");
            let at = line[from..].find(&format!("\"{column}\":")).unwrap();
            from += at;
        }
    }

    #[test]
    fn json_rows_are_flat_and_have_every_column() {
        assert_flat("latency", latency(Some(1.0)));
        assert_flat("latency", latency(None));
        assert_flat("connect", connect());
    }

    #[test]
    fn json_is_one_line() {
        let line = json_line("latency", &[latency(Some(1.0)), latency(None)]);
        assert!(!line.contains('\n'));
        assert!(
            line.starts_with(r#"{"bench":"latency","rows":[{"stack":"raw_udp","p50_us":10.25"#)
        );
    }

    #[test]
    fn a_table_is_aligned_and_shows_what_is_missing() {
        let text = table(&[latency(None)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].len(), lines[1].len());
        assert!(lines[1].ends_with('-'));
    }
}
