//! One request and its answer, over a connection of its own to an address that was looked at before.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::super::super::bindings::http::{HttpError, Response};
use super::super::super::text;
use super::Resolver;
use super::target::Target;
use crate::model::limit::HTTP_BODY_BYTES_MAX;

const RESPONSE_HEADERS_MAX: usize = 64;
const RESPONSE_HEADER_BYTES_MAX: usize = 64 << 10;

pub(super) async fn addresses(target: &Target, resolver: &Resolver) -> Result<Vec<SocketAddr>, HttpError> {
    if let Some(address) = target.address() {
        return Ok(vec![SocketAddr::new(address, target.port)]);
    }
    let resolved = resolver(target.host.clone(), target.port).await.map_err(|e| unreachable(target, &e))?;
    if resolved.is_empty() {
        return Err(HttpError::Unreachable(format!("{} has no address", target.host)));
    }
    Ok(resolved)
}

pub(super) async fn exchange(
    target: &Target,
    addresses: &[SocketAddr],
    request: hyper::Request<Full<Bytes>>,
) -> Result<Response, HttpError> {
    let stream = TcpStream::connect(addresses).await.map_err(|e| unreachable(target, &e))?;
    if !target.https {
        return talk(target, stream, request).await;
    }
    let name = ServerName::try_from(target.host.clone()).map_err(|e| unreachable(target, &e))?;
    let config = tls().map_err(|e| unreachable(target, &e))?;
    let stream = TlsConnector::from(config).connect(name, stream).await.map_err(|e| unreachable(target, &e))?;
    talk(target, stream, request).await
}

/// The machine's own certificates, read once.
fn tls() -> io::Result<Arc<ClientConfig>> {
    static TLS: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = TLS.get() {
        return Ok(Arc::clone(config));
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::clone(TLS.get_or_init(|| Arc::new(config))))
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    target: &Target,
    stream: S,
    request: hyper::Request<Full<Bytes>>,
) -> Result<Response, HttpError> {
    let mut builder = http1::Builder::new();
    builder.max_headers(RESPONSE_HEADERS_MAX).max_buf_size(RESPONSE_HEADER_BYTES_MAX);
    let handshake = builder.handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|e| unreachable(target, &e))?;
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(async {
        let response = sender.send_request(request).await.map_err(|e| unreachable(target, &e))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, HTTP_BODY_BYTES_MAX).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                return HttpError::TooLarge(HTTP_BODY_BYTES_MAX as u64);
            }
            unreachable(target, &error)
        })?;
        let header = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let headers = head.headers.iter().map(header).collect();
        Ok(Response { status: head.status.as_u16(), headers, body: body.to_bytes().to_vec() })
    });
    // Both ends are driven here, so that nothing outlives the attempt.
    tokio::select! {
        biased;
        done = &mut answer => done,
        _ = &mut connection => answer.await,
    }
}

fn unreachable(target: &Target, error: &dyn std::fmt::Display) -> HttpError {
    HttpError::Unreachable(text::reason(&format!("{}: {error}", target.origin())))
}
