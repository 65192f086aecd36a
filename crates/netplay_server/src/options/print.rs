//! Options as text: their names, their defaults, and what they are for. All of it comes from the struct and its
//! comments.

use clap::{Arg, Command, CommandFactory};
use toml::Table;

use super::Options;

/// Columns of a comment.
const WIDTH: usize = 110;

const HEAD: &str = "\
# Options of netplay-server. Give this file to it with --config FILE. Each option can be a flag too (--max-lobbies),
# or in the environment (NETPLAY_MAX_LOBBIES): flags count over the environment, that over the file, and that over
# the defaults, which are what is here.
";

/// The options that a file can have.
fn in_file(command: &Command) -> impl Iterator<Item = (&str, &Arg)> {
    let with_name = command.get_arguments().filter_map(|arg| Some((arg.get_long()?, arg)));
    with_name.filter(|(name, _)| !["config", "print-config"].contains(name))
}

/// What they are called.
pub(super) fn names() -> Vec<String> {
    in_file(&Options::command()).map(|(name, _)| name.to_owned()).collect()
}

fn defaults() -> Table {
    let options = Options::defaults();
    // All of them can be written as TOML, which a test holds.
    let mut table = Table::try_from(&options).unwrap_or_default();
    table.extend(Table::try_from(&options.rates).unwrap_or_default());
    table.extend(Table::try_from(&options.times).unwrap_or_default());
    table
}

/// The help says them too.
pub(super) fn with_defaults(command: Command) -> Command {
    let defaults = defaults();
    command.mut_args(|arg| {
        let default = arg.get_long().and_then(|name| defaults.get(name));
        let default =
            default.filter(|default| default.as_array().is_none_or(|list| !list.is_empty()));
        match (default, arg.get_help()) {
            (Some(default), Some(help)) => {
                let help = format!("{help} [default: {default}]");
                arg.help(help)
            }
            _ => arg,
        }
    })
}

/// A file with every option.
pub(crate) fn commented() -> String {
    let (defaults, command) = (defaults(), Options::command());
    let mut text = HEAD.to_owned();
    for (name, arg) in in_file(&command) {
        text.push('\n');
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        // The last full stop is not in it.
        wrap(&format!("{help}."), &mut text);
        match defaults.get(name) {
            Some(default) => text += &format!("{name} = {default}\n"),
            None => {
                let value = arg.get_value_names().and_then(|names| names.first());
                let value = value.map_or("…", |value| value.as_str());
                text += &format!("# {name} = \"{value}\"\n");
            }
        }
    }
    text
}

fn wrap(words: &str, text: &mut String) {
    let mut column = 0;
    for word in words.split_whitespace() {
        let len = word.chars().count() + 1;
        if column == 0 || column + len > WIDTH {
            if column > 0 {
                text.push('\n');
            }
            text.push('#');
            column = 1;
        }
        text.push(' ');
        text.push_str(word);
        column += len;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::file;
    use super::*;

    #[test]
    fn the_printed_file_has_every_option_with_its_default_and_a_comment() {
        let text = commented();
        let read = file::parse(Path::new("printed"), &text).unwrap();
        assert_eq!(read, Options::defaults());
        for name in names() {
            let at = text
                .lines()
                .position(|line| line.trim_start_matches("# ").starts_with(&format!("{name} = ")));
            let before = text.lines().nth(at.expect(&name) - 1).unwrap();
            assert!(before.starts_with("# ") && !before.contains(" = "), "{name}: {before}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    }

    #[test]
    fn every_option_can_be_in_the_environment_under_its_name() {
        for (name, arg) in in_file(&Options::command()) {
            let variable = format!("NETPLAY_{}", name.replace('-', "_").to_uppercase());
            assert_eq!(arg.get_env().and_then(|env| env.to_str()), Some(variable.as_str()));
            assert!(arg.get_help().is_some(), "{name}");
        }
    }
}
