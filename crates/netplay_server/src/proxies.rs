//! Whose connection it is that a proxy passes on.
//!
//! A proxy that is trusted says so in `X-Forwarded-For`, which every common proxy can write. The address that
//! counts is the last one in it that is no trusted proxy: what is before it was written by the client, or may
//! have been. RFC 7239's `Forwarded` is not read: a proxy that writes the one and passes the other on as it came
//! would let clients choose.

use core::fmt::{self, Display};
use core::net::{IpAddr, SocketAddr};
use core::str::FromStr;

use axum::http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use thiserror::Error;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// An address, or all that begin with the same bits: `192.0.2.7`, `10.0.0.0/8`, `2001:db8::/32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressBlock(IpNet);

/// A text is no [`AddressBlock`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no address; it looks like 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32")]
pub struct NoAddressBlock(String);

impl AddressBlock {
    /// Whether this address is in it. An IPv4 address that is written as IPv6 (`::ffff:192.0.2.7`) is IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for AddressBlock {
    type Err = NoAddressBlock;

    fn from_str(text: &str) -> Result<Self, NoAddressBlock> {
        let net = match text.parse::<IpAddr>() {
            Ok(address) => Ok(IpNet::from(address.to_canonical())),
            Err(_) => text.parse().map_err(|_| NoAddressBlock(text.to_owned())),
        };
        net.map(Self)
    }
}

impl TryFrom<String> for AddressBlock {
    type Error = NoAddressBlock;

    fn try_from(text: String) -> Result<Self, NoAddressBlock> {
        text.parse()
    }
}

impl From<AddressBlock> for String {
    fn from(block: AddressBlock) -> Self {
        block.to_string()
    }
}

impl Display for AddressBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The client of a request that this proxy passes on: the proxy itself, if it does not say, or not so that it
/// can be understood.
pub(crate) fn client(trusted: &[AddressBlock], proxy: IpAddr, headers: &HeaderMap) -> IpAddr {
    let mut lines: Vec<_> = headers.get_all(FORWARDED_FOR).iter().collect();
    lines.reverse();
    for line in lines {
        let Ok(line) = line.to_str() else { return proxy };
        for entry in line.rsplit(',') {
            match address(entry.trim()) {
                None => return proxy,
                Some(address) if trusted.iter().any(|block| block.contains(address)) => {}
                Some(address) => return address,
            }
        }
    }
    proxy
}

/// Some proxies add the port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok();
    address.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip())).map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// The client, if 10.0.0.0/8 and 2001:db8:: are trusted and 10.0.0.1 passes these lines on.
    fn client_of(lines: &[&[u8]]) -> IpAddr {
        let trusted = ["10.0.0.0/8", "2001:db8::"].map(|block| block.parse().unwrap());
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("X-Forwarded-For", HeaderValue::from_bytes(line).unwrap());
        }
        client(&trusted, ip("10.0.0.1"), &headers)
    }

    #[test]
    fn the_client_is_the_last_address_that_is_no_trusted_proxy() {
        assert_eq!(client_of(&[b"192.0.2.1"]), ip("192.0.2.1"));
        assert_eq!(client_of(&[b"192.0.2.1, 192.0.2.2"]), ip("192.0.2.2"));
        assert_eq!(client_of(&[b"192.0.2.1, 192.0.2.2,10.9.9.9 , 2001:db8::"]), ip("192.0.2.2"));
        assert_eq!(client_of(&[b"192.0.2.1", b"192.0.2.2", b"10.0.0.2"]), ip("192.0.2.2"));
        assert_eq!(client_of(&[b"2001:db8::1"]), ip("2001:db8::1"));
    }

    #[test]
    fn addresses_may_have_a_port_or_be_ipv4_in_ipv6() {
        assert_eq!(client_of(&[b"192.0.2.1:4711"]), ip("192.0.2.1"));
        assert_eq!(client_of(&[b"[2001:db8::1]:4711"]), ip("2001:db8::1"));
        assert_eq!(client_of(&[b"[2001:db8::1]"]), ip("2001:db8::1"));
        assert_eq!(client_of(&[b"192.0.2.1, ::ffff:10.0.0.2"]), ip("192.0.2.1"));
        assert_eq!(client_of(&[b"::ffff:192.0.2.1"]), ip("192.0.2.1"));
    }

    #[test]
    fn without_an_address_that_can_be_understood_it_is_the_proxy_itself() {
        let proxy = ip("10.0.0.1");
        assert_eq!(client_of(&[]), proxy);
        for line in [&b""[..], b"unknown", b"10.0.0.2", b"192.0.2.1, ", b"192.0.2.1, x", b"\xff"] {
            assert_eq!(client_of(&[line]), proxy, "{line:?}");
        }
        assert_eq!(client_of(&[b"192.0.2.1", b"_hidden"]), proxy);
        // What the client wrote does not matter.
        assert_eq!(client_of(&[b"x, \xff", b"192.0.2.1"]), ip("192.0.2.1"));
    }

    #[test]
    fn a_block_is_an_address_or_has_bits() {
        for (text, shown) in [("192.0.2.7", "192.0.2.7/32"), ("10.0.0.0/8", "10.0.0.0/8")] {
            assert_eq!(text.parse::<AddressBlock>().unwrap().to_string(), shown);
        }
        for wrong in ["", "10.0.0.0/33", "10.0.0/8", "host", "10.0.0.1:80", "::/129", " 10.0.0.1"] {
            let error = wrong.parse::<AddressBlock>().unwrap_err().to_string();
            assert!(error.contains("10.0.0.0/8"), "{error}");
        }
        let block: AddressBlock = "::ffff:192.0.2.7".parse().unwrap();
        assert!(block.contains(ip("192.0.2.7")) && block.contains(ip("::ffff:192.0.2.7")));
        assert!(!block.contains(ip("192.0.2.8")));
    }
}
