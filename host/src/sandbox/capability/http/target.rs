//! A request's URL, read strictly: what is not plainly an origin and a path is refused, so that nobody along the way
//! can read it differently.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::spec::OriginSpec;

const URL_BYTES_MAX: usize = 8 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) https: bool,
    /// Lower case; an IPv6 address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Path and query, from the slash on.
    pub(super) path: String,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, &'static str> {
        if url.len() > URL_BYTES_MAX {
            return Err("a URL has at most 8192 bytes");
        }
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("a URL has no spaces, control characters or other letters than ASCII; percent-encode them");
        }
        let (scheme, rest) = url.split_once("://").ok_or("a URL begins with https:// or http://")?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err("a URL begins with https:// or http://"),
        };
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = authority_of(authority)?;
        let port = if port.is_empty() { if https { 443 } else { 80 } } else { port_of(port)? };
        if path.contains('\\') {
            return Err("a path has no backslashes; percent-encode them");
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { https, host, port, path })
    }

    pub(super) fn is(&self, origin: &OriginSpec) -> bool {
        (self.https, self.host.as_str(), self.port) == (origin.https, origin.host.as_str(), origin.port)
    }

    pub(super) fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// As the `Host` header has it.
    pub(super) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.https, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// As the manifest has it.
    pub(super) fn origin(&self) -> String {
        format!("{}://{}", if self.https { "https" } else { "http" }, self.authority())
    }
}

fn authority_of(authority: &str) -> Result<(String, &str), &'static str> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("an IPv6 address ends with ]")?;
        let address: Ipv6Addr = host.parse().map_err(|_| "what is between [ and ] is an IPv6 address")?;
        let port =
            if rest.is_empty() { "" } else { rest.strip_prefix(':').ok_or("after ] comes a port or nothing")? };
        return Ok((address.to_string(), port));
    }
    let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
    let host = host.to_ascii_lowercase();
    let plain = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
    };
    if host.len() > 253 || !host.split('.').all(plain) {
        return Err("a host is a name of letters, digits, '-' and dots, without user, password or trailing dot");
    }
    // Resolvers read 0x7f.1, 2130706433 and 017700000001 as addresses.
    let last = host.rsplit('.').next().unwrap_or_default();
    let number = last.starts_with(|c: char| c.is_ascii_digit())
        && (last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x"));
    if number && host.parse::<Ipv4Addr>().is_err() {
        return Err("an IPv4 address is written as four decimal numbers");
    }
    Ok((host, port))
}

fn port_of(port: &str) -> Result<u16, &'static str> {
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let number = port.parse().ok().filter(|number| digits && *number > 0);
    number.ok_or("a port is a number from 1 to 65535")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(url: &str, origin: (bool, &str, u16)) -> bool {
        let origin = OriginSpec { https: origin.0, host: origin.1.into(), port: origin.2, private: false };
        Target::parse(url).is_ok_and(|target| target.is(&origin))
    }

    #[test]
    fn an_origin_is_granted_exactly() {
        let mail = (true, "mail.example.com", 443);
        for url in [
            "https://mail.example.com",
            "https://mail.example.com/",
            "https://mail.example.com:443/a?b=c#d",
            "HTTPS://MAIL.example.COM/x",
            "https://mail.example.com?q=1",
        ] {
            assert!(granted(url, mail), "{url}");
        }
        for url in [
            "http://mail.example.com/",
            "https://mail.example.com:444/",
            "https://mail.example.com.evil.com/",
            "https://evil.com/mail.example.com",
            "https://evil.com?mail.example.com",
            "https://evil.com#@mail.example.com",
            "https://mail.example.com@evil.com/",
            "https://user:pass@mail.example.com/",
            "https://mail.example.com:@evil.com",
            "https://mail.example.com\\@evil.com/",
            "https://evil.com\\mail.example.com",
            "https:/mail.example.com/",
            "https:mail.example.com",
            "//mail.example.com/",
            "mail.example.com",
            "https://mail.example.com./",
            "https://mail.example.com%2eevil.com/",
            "https://mail.example.com%00.evil.com/",
            "https://.mail.example.com/",
            "https://mail..example.com/",
            "https://mail.example.com:0/",
            "https://mail.example.com:443443/",
            "https://mail.example.com:+443/",
            "https://mail.example.com: 443/",
            "https://mail.example.com /",
            "https://mail.example.com\r\nHost: evil.com/",
            "https://mail.example.com/\r\nX: y",
            "https://maıl.example.com/",
            "https://mail。example.com/",
            "ftp://mail.example.com/",
            "file:///etc/passwd",
            "gopher://mail.example.com/",
            "javascript://mail.example.com/",
            "https://",
            "https:///path",
            "",
            "https://mail.example.com/\\..\\x",
        ] {
            assert!(!granted(url, mail), "{url}");
        }
    }

    #[test]
    fn addresses_in_disguise_are_no_hosts() {
        for url in [
            "http://2130706433/",
            "http://0x7f000001/",
            "http://017700000001/",
            "http://127.1/",
            "http://0x7f.0.0.1/",
            "http://127.0.0.01/",
            "http://0177.0.0.1/",
            "http://127.0.0.1./",
            "http://[::1",
            "http://[::1]evil.com/",
            "http://[fe80::1%25eth0]/",
            "http://[::ffff:127.0.0.1]x/",
            "http://1.2.3.4.5/",
            "http://256.1.1.1/",
            "http://0/",
            "http://evil.com.0x1/",
        ] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
        assert!(granted("http://[0:0:0:0:0:0:0:1]:8080/", (false, "::1", 8080)));
        assert!(granted("http://127.0.0.1:8080/", (false, "127.0.0.1", 8080)));
        assert_eq!(Target::parse("http://[::1]:8080").unwrap().authority(), "[::1]:8080");
    }
}
