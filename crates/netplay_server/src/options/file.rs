//! Options in a file.

use std::path::Path;

use toml::de::DeTable;

use super::{Options, OptionsError, print};

pub(super) fn read(path: &Path) -> Result<Options, OptionsError> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| OptionsError::File { path: path.to_owned(), error })?;
    parse(path, &text)
}

pub(super) fn parse(path: &Path, text: &str) -> Result<Options, OptionsError> {
    let line = |at: usize| 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
    let malformed = |error: toml::de::Error| OptionsError::Malformed {
        path: path.to_owned(),
        line: error.span().map_or(1, |span| line(span.start)),
        text: error.message().to_owned(),
    };
    let names = print::names();
    let table = DeTable::parse(text).map_err(malformed)?;
    for key in table.get_ref().keys() {
        let name: &str = key.get_ref();
        if !names.iter().any(|known| known == name) {
            let advice = advice(name, &names);
            let (path, line) = (path.to_owned(), line(key.span().start));
            return Err(OptionsError::Unknown { path, line, name: name.to_owned(), advice });
        }
    }
    let rates = toml::from_str(text).map_err(malformed)?;
    let times = toml::from_str(text).map_err(malformed)?;
    Ok(Options { rates, times, ..toml::from_str(text).map_err(malformed)? })
}

/// What somebody may have meant.
fn advice(name: &str, names: &[String]) -> String {
    /// Names that are less alike are other words.
    const ALIKE: f64 = 0.8;
    let name = name.replace('_', "-").to_ascii_lowercase();
    let alike = names.iter().map(|known| (strsim::jaro_winkler(&name, known), known));
    match alike.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((alike, known)) if alike >= ALIKE => format!("did you mean {known:?}?"),
        _ => "--print-config shows all there are".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(Path::new("netplay.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn options_have_the_names_of_the_flags() {
        let text = "bind = \"127.0.0.1:0\"\norigin = [\"https://a.example\"]\nkeep-alive = 2\n\
                    trust-proxy = [\"10.0.0.0/8\"]\ngrace = 0.5\naddress-searches = \"9:8\"\n";
        let options = parse(Path::new("x"), text).unwrap();
        assert_eq!(options.origin.unwrap()[0].to_string(), "https://a.example");
        assert_eq!(options.trust_proxy.unwrap()[0].to_string(), "10.0.0.0/8");
        assert_eq!(options.times.keep_alive, Some("2".parse().unwrap()));
        assert_eq!(options.times.grace, Some("0.5".parse().unwrap()));
        assert_eq!(options.rates.address_searches, Some("9:8".parse().unwrap()));
        assert_eq!(options.bind, Some("127.0.0.1:0".parse().unwrap()));
    }

    #[test]
    fn what_is_no_option_is_refused_with_its_line_and_what_was_meant() {
        for (name, meant) in [
            ("max-conections", "\"max-connections\""),
            ("max_connections", "\"max-connections\""),
            ("Bind", "\"bind\""),
            ("trust-proxies", "\"trust-proxy\""),
            ("xyzzy", "--print-config"),
            ("config", "--print-config"),
        ] {
            let error = error(&format!("# a comment\nbind = \"127.0.0.1:0\"\n{name} = 1\n"));
            assert!(error.starts_with("netplay.toml, line 3: "), "{error}");
            assert!(error.contains(&format!("{name:?}")) && error.contains(meant), "{error}");
        }
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_line_and_why() {
        for (line, why) in [
            ("bind = 3536", "socket address"),
            ("max-connections = -1", "-1"),
            ("grace = 0", "seconds"),
            ("origin = [\"game.example\"]", "https://game.example"),
            ("trust-proxy = [\"10.0.0.0/33\"]", "10.0.0.0/8"),
            ("chat = 5", "a string"),
            ("chat = \"5:0\"", "60:10"),
            ("bind = ", ""),
        ] {
            let error = error(&format!("\n{line}\n"));
            assert!(error.starts_with("netplay.toml, line 2: ") && error.contains(why), "{error}");
        }
    }
}
