//! `server`: where people and producers reach the host, and who they must be.

use std::net::{Ipv4Addr, SocketAddr};

use schemars::JsonSchema;

use super::super::codes;
use super::super::diagnostic::Diagnostic;
use super::super::reader::{At, Reader, Shape};
use super::super::yaml::{Node, Value, quoted};
use super::bounds;
use super::duration::Millis;
use crate::model::spec::Scope;

pub(crate) const SHAPE: Shape = Shape { what: "`server`", keys: &["listen", "hosts", "tokens", "grace"], later: &[] };

pub(crate) const TOKEN_SHAPE: Shape = Shape { what: "a token", keys: &["name", "token", "scopes"], later: &[] };

/// Where the host listens if the manifest does not say.
pub(crate) const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7420);

/// Shorter tokens could be guessed.
const TOKEN_BYTES_MIN: usize = 16;
const TOKEN_BYTES_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 63;

/// Where people and producers reach the host.
#[derive(Clone, Debug, Default, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Server {
    /// Address and port. Port 0 takes any free one. Any address but a loopback one needs `tokens`. Default
    /// `127.0.0.1:7420`.
    #[schemars(with = "Option<String>")]
    pub listen: Option<At<SocketAddr>>,
    /// Names by which the host may be called, besides `localhost` and loopback addresses.
    #[schemars(with = "Option<Vec<String>>")]
    pub hosts: Vec<At<String>>,
    /// Who may do what. Without tokens everybody on this machine may do everything.
    #[schemars(with = "Option<Vec<Token>>")]
    pub tokens: Vec<Token>,
    /// How long a stop lets attempts in hand finish. Default `20s`.
    pub grace: Option<At<Millis>>,
}

/// A bearer token and what its holder may do.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Token {
    /// Shown in the log instead of the token.
    pub name: At<String>,
    /// The secret itself, 16 to 256 characters; best taken from the environment: `${TOKEN}`.
    pub token: At<String>,
    /// What its holder may do.
    #[schemars(length(min = 1))]
    pub scopes: Vec<Scope>,
}

pub(crate) fn read(reader: &mut Reader, node: &Node) -> Option<Server> {
    let fields = reader.fields(node, &SHAPE)?;
    let listen = fields.get("listen").and_then(|node| listen(reader, node));
    let hosts = fields.get("hosts").map(|node| hosts(reader, node)).unwrap_or_default();
    let tokens = fields.get("tokens").map(|node| tokens(reader, node)).unwrap_or_default();
    let grace = fields.get("grace").and_then(|node| reader.quantity(node, "`grace`", &bounds::GRACE));
    if let Some(address) = &listen
        && !address.value.ip().is_loopback()
        && fields.get("tokens").is_none_or(|node| matches!(&node.value, Value::List(l) if l.is_empty()))
    {
        let message = "listening beyond this machine needs tokens";
        let remark = "others could reach this address";
        let help = "add `tokens` to `server`, or listen on 127.0.0.1";
        reader.error(codes::OPEN_LISTEN, address.span.clone(), message, remark, help);
    }
    Some(Server { listen, hosts, tokens, grace })
}

fn listen(reader: &mut Reader, node: &Node) -> Option<At<SocketAddr>> {
    let text = reader.text(node, "`listen`")?;
    let address = match text.value.strip_prefix("localhost:") {
        Some(port) => port.parse().ok().map(|port: u16| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)),
        None => text.value.parse().ok(),
    };
    if address.is_none() {
        let message = format!("{} is not an address to listen on", reader.written(node));
        let help = "write an IP address and a port, such as 127.0.0.1:7420 or [::1]:7420";
        reader.error(codes::ADDRESS, text.span.clone(), message, "expected address:port", help);
    }
    address.map(|value| At { value, span: text.span })
}

fn hosts(reader: &mut Reader, node: &Node) -> Vec<At<String>> {
    let mut hosts = Vec::new();
    for item in reader.list(node, "`hosts`") {
        let Some(host) = reader.text(item, "a host") else { continue };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
        if host.value.len() <= 255 && host.value.chars().all(plain) {
            hosts.push(At { value: host.value.to_ascii_lowercase(), span: host.span });
        } else {
            let message = format!("{} is not the name of a host", reader.written(item));
            let help = "write the name alone, such as events.example.com, without scheme or path";
            reader.error(codes::ADDRESS, host.span, message, "", help);
        }
    }
    hosts
}

fn tokens(reader: &mut Reader, node: &Node) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    for item in reader.list(node, "`tokens`") {
        let Some(token) = token(reader, item) else { continue };
        let same = |other: &&Token| other.name.value == token.name.value || other.token.value == token.token.value;
        if let Some(first) = tokens.iter().find(same) {
            let problem = Diagnostic::error(codes::REPEATED, "two tokens have the same name or value")
                .at(&reader.source, token.name.span.clone(), "again here")
                .at(&reader.source, first.name.span.clone(), "first here")
                .help("give each token a name and a value of its own");
            reader.push(problem);
        }
        tokens.push(token);
    }
    tokens
}

fn token(reader: &mut Reader, node: &Node) -> Option<Token> {
    let fields = reader.fields(node, &TOKEN_SHAPE)?;
    for key in TOKEN_SHAPE.keys {
        if fields.get(key).is_none() {
            reader.missing(&fields, key, "a token has a `name`, a `token` and a list of `scopes`");
        }
    }
    let name = fields.get("name").and_then(|node| reader.text(node, "`name`"));
    if let Some(name) = name.as_ref().filter(|name| !is_name(&name.value)) {
        let message = format!("{} cannot name a token", quoted(&name.value));
        let help = format!("a name has 1 to {NAME_BYTES_MAX} characters of a-z, A-Z, 0-9, '-', '_' and '.'");
        reader.error(codes::NAME, name.span.clone(), message, "", help);
    }
    let token = fields.get("token").and_then(|node| secret(reader, node));
    let scopes = fields.get("scopes").map(|node| scopes(reader, node));
    Some(Token { name: name?, token: token?, scopes: scopes? })
}

fn is_name(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn secret(reader: &mut Reader, node: &Node) -> Option<At<String>> {
    let text = reader.scalar(node, "`token`", "a string")?.to_owned();
    if (TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic()) {
        return Some(At { value: text, span: node.span.clone() });
    }
    let message = format!("a token has {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} visible ASCII characters");
    let help = "make one with `openssl rand -hex 32` and pass it in the environment: `${TOKEN}`";
    reader.error(codes::TOKEN, node.span.clone(), message, "", help);
    None
}

fn scopes(reader: &mut Reader, node: &Node) -> Vec<Scope> {
    let choices = [("publish", Scope::Publish), ("read", Scope::Read), ("operate", Scope::Operate)];
    let mut scopes = Vec::new();
    let items = reader.list(node, "`scopes`");
    if matches!(&node.value, Value::List(items) if items.is_empty()) {
        let help = "name at least one of publish, read, operate";
        reader.error(codes::CHOICE, node.span.clone(), "a token without scopes may do nothing", "", help);
    }
    for item in items {
        if let Some(scope) = reader.choice(item, "a scope", &choices)
            && !scopes.contains(&scope.value)
        {
            scopes.push(scope.value);
        }
    }
    scopes
}
