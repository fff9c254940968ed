//! Origins that a consumer may call: scheme, host and port, exactly.

use std::borrow::Cow;
use std::net::IpAddr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::super::codes;
use super::super::reader::{At, Reader, Shape};
use super::super::yaml::{Node, Value};
use crate::model::spec::OriginSpec;

pub(crate) const SHAPE: Shape = Shape { what: "an origin", keys: &["origin", "private"], later: &[] };

/// An origin as a string, or as a map.
pub(crate) struct Origin;

/// An origin and what else is to be known of it.
#[derive(JsonSchema)]
#[schemars(rename = "Origin", deny_unknown_fields)]
struct OriginFields {
    /// Scheme, host and, unless it is the scheme's own, port.
    #[schemars(with = "String")]
    origin: At<OriginSpec>,
    /// Whether the host may resolve to a loopback or private address. Default false.
    private: Option<At<bool>>,
}

impl JsonSchema for Origin {
    fn schema_name() -> Cow<'static, str> {
        "OriginOrString".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<OriginFields>();
        json_schema!({ "anyOf": [{ "type": "string", "minLength": 1 }, map] })
    }
}

pub(crate) fn read(reader: &mut Reader, node: &Node) -> Vec<At<OriginSpec>> {
    let mut origins: Vec<At<OriginSpec>> = Vec::new();
    for item in reader.one_or_many(node) {
        let Some(origin) = origin(reader, item) else { continue };
        if origins.iter().all(|other| other.value != origin.value) {
            origins.push(origin);
        }
    }
    origins
}

fn origin(reader: &mut Reader, node: &Node) -> Option<At<OriginSpec>> {
    if !matches!(node.value, Value::Map(_)) {
        return written(reader, node);
    }
    let fields = fields(reader, node)?;
    let mut origin = fields.origin;
    origin.value.private = fields.private.is_some_and(|private| private.value);
    Some(origin)
}

fn fields(reader: &mut Reader, node: &Node) -> Option<OriginFields> {
    let fields = reader.fields(node, &SHAPE)?;
    let private = fields.get("private").and_then(|node| reader.boolean(node, "`private`"));
    let Some(text) = fields.get("origin") else {
        reader.missing(&fields, "origin", "write it like `origin: https://mail.example.com`");
        return None;
    };
    Some(OriginFields { origin: written(reader, text)?, private })
}

fn written(reader: &mut Reader, node: &Node) -> Option<At<OriginSpec>> {
    let text = reader.text(node, "an origin")?;
    match parse(&text.value) {
        Ok(value) => Some(At { value, span: text.span }),
        Err(reason) => {
            let message = format!("{} is not an origin", reader.written(node));
            let help = "write scheme, host and perhaps port, as in https://mail.example.com or http://127.0.0.1:8080";
            reader.error(codes::ORIGIN, text.span, message, reason, help);
            None
        }
    }
}

fn parse(text: &str) -> Result<OriginSpec, &'static str> {
    let (https, rest) = match text.split_once("://") {
        Some(("https", rest)) => (true, rest),
        Some(("http", rest)) => (false, rest),
        Some(_) => return Err("only http and https can be granted"),
        None => return Err("the scheme is missing"),
    };
    if rest.contains('@') {
        return Err("user and password do not belong to an origin: use `secrets`");
    }
    if rest.contains(['/', '?', '#', '\\']) {
        return Err("an origin has no path, not even a final slash");
    }
    if rest.contains('*') {
        return Err("origins are granted one by one, without wildcards");
    }
    let (host, port) = split_port(rest)?;
    let port = match port {
        None if https => 443,
        None => 80,
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or("the port is not a number from 1 to 65535")?,
    };
    Ok(OriginSpec { https, host: host_name(host)?, port, private: false })
}

fn split_port(rest: &str) -> Result<(&str, Option<&str>), &'static str> {
    if let Some(bracketed) = rest.strip_prefix('[') {
        let (host, after) = bracketed.split_once(']').ok_or("the bracket is never closed")?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| "not an IPv6 address")?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err("only a port can follow the address"),
        };
    }
    match rest.split_once(':') {
        Some((host, port)) if !port.contains(':') => Ok((host, Some(port))),
        Some(_) => Err("an IPv6 address is written in brackets"),
        None => Ok((rest, None)),
    }
}

fn host_name(host: &str) -> Result<String, &'static str> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    // A last label of digits would be read as an odd way to write an address.
    let numeric = name.rsplit('.').next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_digit()));
    if !host.is_ascii() {
        return Err("write international names in their ASCII form (xn--…)");
    }
    if host.len() > 253 || !name.split('.').all(label) || numeric {
        return Err("the host is not a name and not an address");
    }
    Ok(name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_scheme_host_and_port() {
        for (text, https, host, port) in [
            ("https://mail.example.com", true, "mail.example.com", 443),
            ("http://localhost:8080", false, "localhost", 8080),
            ("https://MAIL.example.com.:8443", true, "mail.example.com", 8443),
            ("http://127.0.0.1", false, "127.0.0.1", 80),
            ("http://[::1]:81", false, "::1", 81),
            ("https://[2001:DB8::1]", true, "2001:db8::1", 443),
        ] {
            let origin = parse(text).unwrap();
            assert_eq!((origin.https, origin.host.as_str(), origin.port), (https, host, port), "{text}");
        }
        for text in [
            "mail.example.com",
            "ftp://a",
            "https://",
            "https://a/",
            "https://a/b",
            "https://u:p@a",
            "https://*.a",
            "https://a:0",
            "https://a:70000",
            "https://a:b:c",
            "http://::1",
            "http://[::1",
            "http://[a]",
            "https://a?b",
            "https://ä.de",
            "http://0x7f.1",
            "http://127.1",
            "http://2130706433",
            "https://-a",
            "https://a..b",
            "https://a b",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
