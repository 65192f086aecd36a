//! Which web pages may connect.
//!
//! A browser says in each WebSocket's `Origin` where the page is from, and pages cannot change that. Programs
//! that are no browsers say nothing, or what they like: this keeps other people's pages away, and nobody else.

use core::fmt::{self, Display};
use core::str::FromStr;

use axum::http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Where a page is from, as browsers write it: `https://game.example`, `http://localhost:8080`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Origin(String);

/// A text is no [`Origin`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{text:?} is no origin: {why}; it looks like https://game.example or http://localhost:8080"
)]
pub struct NoOrigin {
    text: String,
    why: &'static str,
}

impl FromStr for Origin {
    type Err = NoOrigin;

    fn from_str(text: &str) -> Result<Self, NoOrigin> {
        let wrong = |why| NoOrigin { text: text.to_owned(), why };
        let lower = text.to_ascii_lowercase();
        let (scheme, host) = lower.split_once("://").ok_or(wrong("it has no scheme"))?;
        let host = host.strip_suffix('/').unwrap_or(host);
        // Browsers leave the usual port out.
        let usual = match scheme {
            "http" => ":80",
            "https" => ":443",
            _ => "",
        };
        let host = if usual.is_empty() { host } else { host.strip_suffix(usual).unwrap_or(host) };
        if host.is_empty() || scheme.is_empty() {
            return Err(wrong("it has no host"));
        }
        if host.contains(['/', '?', '#', '@', '*', ','])
            || !lower.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(wrong("scheme, host and port only, spelled out"));
        }
        Ok(Self(format!("{scheme}://{host}")))
    }
}

impl TryFrom<String> for Origin {
    type Error = NoOrigin;

    fn try_from(text: String) -> Result<Self, NoOrigin> {
        text.parse()
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.0
    }
}

impl Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether a WebSocket with these headers may be opened.
pub(crate) fn is_allowed(allowed: &[Origin], headers: &HeaderMap) -> bool {
    let known =
        |origin: &[u8]| allowed.iter().any(|one| one.0.as_bytes().eq_ignore_ascii_case(origin));
    allowed.is_empty()
        || headers.get_all(header::ORIGIN).iter().all(|origin| known(origin.as_bytes()))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn allows(allowed: &[&str], origins: &[&'static str]) -> bool {
        let allowed: Vec<Origin> = allowed.iter().map(|origin| origin.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for origin in origins {
            headers.append(header::ORIGIN, HeaderValue::from_static(origin));
        }
        is_allowed(&allowed, &headers)
    }

    #[test]
    fn pages_from_elsewhere_are_not_let_in_and_who_is_no_page_is() {
        let allowed = ["https://Game.example", "http://localhost:8080/"];
        assert!(allows(&allowed, &[]));
        assert!(allows(&allowed, &["https://game.example"]));
        assert!(allows(&allowed, &["http://localhost:8080"]));
        for other in [
            "http://game.example",
            "https://game.example:8443",
            "https://game.example.other.example",
            "https://other.example",
            "null",
            "",
        ] {
            assert!(!allows(&allowed, &[other]), "{other}");
            assert!(!allows(&allowed, &["https://game.example", other]), "{other}");
            assert!(allows(&[], &[other]), "{other}");
        }
    }

    #[test]
    fn the_usual_port_is_no_difference() {
        assert!(allows(&["https://game.example:443"], &["https://game.example"]));
        assert!(allows(&["http://game.example:80"], &["http://game.example"]));
        assert!(!allows(&["http://game.example:443"], &["http://game.example"]));
    }

    #[test]
    fn what_is_no_origin_is_refused_with_a_reason() {
        for wrong in [
            "",
            "game.example",
            "*",
            "https://",
            "https://*.example",
            "https://a/b",
            "https://a b",
            "://a",
        ] {
            let error = wrong.parse::<Origin>().unwrap_err().to_string();
            assert!(error.contains("https://game.example"), "{error}");
        }
    }
}
